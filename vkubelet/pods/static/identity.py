"""What makes a manifest a static pod of this node: its name, its uid, and what it may not ask for; pure.

It exists to hold the rules of the kubelet's file source (pkg/kubelet/config/common.go) in one place. The uid
follows from the content alone, so that an agent which starts again finds the pod's containers. It must not
know how files are read or watched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod, PodSpec
from vkubelet.api.times import rfc3339_micro
from vkubelet.api.volumes import Volume
from vkubelet.pods.fit import MIRROR_ANNOTATION as MIRROR
from vkubelet.pods.fit import SOURCE_ANNOTATION as SOURCE
from vkubelet.pods.manifests.errors import ManifestError
from vkubelet.pods.manifests.reading import Manifest, read_pod, subject
from vkubelet.pods.manifests.text import Document

HASH = "kubernetes.io/config.hash"
SEEN = "kubernetes.io/config.seen"

_TOLERATION = {"operator": "Exists", "effect": "NoExecute"}
# A uid becomes a part of paths; the hash that the kubelet makes of a file is 32 hexadecimal digits.
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_NODE_CRITICAL = 2_000_001_000


def static_pod(document: Document, source: str, node_name: str, seen: float) -> Manifest:
    """The pod that the file `source` names for this node. Raises ManifestError.

    `seen` is when, in seconds since the epoch; it is no part of what the pod is.
    """
    metadata = document.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    name = metadata.get("name")
    if not isinstance(name, str) or not name:
        raise ManifestError(source, subject(document), ["invalid pod: name is needed for the pod"])
    uid = metadata.get("uid") or _hash(document, source, node_name)
    if not isinstance(uid, str) or _UID.fullmatch(uid) is None:
        raise ManifestError(source, subject(document), [f"invalid pod: metadata.uid: Invalid value: {uid!r}"])
    metadata |= {
        "name": f"{name}-{node_name.lower()}",
        "namespace": metadata.get("namespace") or "default",
        "uid": uid,
        "annotations": _annotated(metadata.get("annotations"), uid, seen),
    }
    made = dict(document) | {"metadata": metadata}
    if isinstance(made.get("spec"), dict):
        made["spec"] = _for_node(made["spec"], node_name)
    manifest = read_pod(made, source)
    refused = reference(manifest.pod)
    if refused is not None:
        named = subject(manifest.document)
        raise ManifestError(source, named, [f"static pods may not reference {refused}"])
    return manifest


def content(manifest: Manifest) -> bytes:
    """What tells two versions of a static pod apart: all of it but when it was seen."""
    return _encoded(manifest.document | {"metadata": _without_seen(manifest.document["metadata"])})


def warnings(manifest: Manifest) -> list[str]:
    """What is worth saying of a static pod that can be run, with the kubelet's words on priorities."""
    found = [f"unknown field {path!r} is not looked at" for path in manifest.unknown]
    spec = manifest.pod.spec
    if spec.priority is None and spec.priority_class_name:
        found.append(
            "Static pod has priorityClassName and nil priority. Kubelet will not use priorityClassName, and "
            "mirror pod creation may fail."
        )
    elif spec.priority is not None and not spec.priority_class_name:
        found.append(
            "Static pod has priority without priorityClassName. Mirror pod creation may fail if the default "
            "priority class doesn't match the given priority."
        )
    elif spec.priority is not None and (
        spec.priority != _NODE_CRITICAL or spec.priority_class_name != "system-node-critical"
    ):
        found.append(
            f"Static pod has a priority other than {_NODE_CRITICAL} or a priorityClassName other than "
            "system-node-critical. Mirror pod may be attempted to be evicted from the node ineffectively."
        )
    return found


def reference(pod: Pod) -> str | None:
    """The kind of API object that a pod names and a static pod may not, in the kubelet's words."""
    spec = pod.spec
    if spec.service_account_name:
        return "serviceaccounts"
    if _names_secret(spec):
        return "secrets"
    if _names_config_map(spec):
        return "configmaps"
    if spec.resource_claims:
        return "resourceclaims"
    for volume in spec.volumes or ():
        found = _volume_reference(volume)
        if found is not None:
            return found
    return None


def _names_secret(spec: PodSpec) -> bool:
    if spec.image_pull_secrets:
        return True
    for container in spec.all_containers():
        if any(source.secret_ref is not None for source in container.env_from or ()):
            return True
        if any(source.secret_key_ref is not None for source in _value_sources(container)):
            return True
    for volume in spec.volumes or ():
        if volume.secret is not None or volume.azure_file is not None:
            return True
        if volume.csi is not None and volume.csi.node_publish_secret_ref is not None:
            return True
        if volume.projected is not None and any(item.secret for item in volume.projected.sources or ()):
            return True
        if any("secretRef" in value for value in _untyped(volume)):
            return True
    return False


def _names_config_map(spec: PodSpec) -> bool:
    for container in spec.all_containers():
        if any(source.config_map_ref is not None for source in container.env_from or ()):
            return True
        if any(source.config_map_key_ref is not None for source in _value_sources(container)):
            return True
    for volume in spec.volumes or ():
        if volume.config_map is not None:
            return True
        if volume.projected is not None and any(item.config_map for item in volume.projected.sources or ()):
            return True
    return False


def _volume_reference(volume: Volume) -> str | None:
    for found, text in (
        (volume.csi, "csidrivers (via CSI volumes)"),
        (volume.glusterfs, "endpoints (via glusterFS volumes)"),
        (volume.persistent_volume_claim, "persistentvolumeclaims"),
        (volume.ephemeral, "persistentvolumeclaims (via ephemeral volumes)"),
    ):
        if found is not None:
            return text
    for source in (volume.projected.sources if volume.projected is not None else None) or ():
        if source.service_account_token is not None:
            return "serviceaccounts (via projected volumes)"
        if source.cluster_trust_bundle is not None:
            return "clustertrustbundles"
        if source.pod_certificate is not None:
            return "podcertificates"
    return None


def _value_sources(container: Container) -> Iterable[Any]:
    return [variable.value_from for variable in container.env or () if variable.value_from is not None]


def _untyped(volume: Volume) -> Iterable[Mapping[str, Any]]:
    values = (getattr(volume, field) for field in volume.__struct_fields__)
    return [value for value in values if isinstance(value, dict)]


def _hash(document: Document, source: str, node_name: str) -> str:
    digest = hashlib.sha256(_encoded(document))
    digest.update(f"host:{node_name}file:{source}".encode())
    return digest.hexdigest()[:32]


def _encoded(document: Document) -> bytes:
    return msgspec.json.encode(document, order="sorted")


def _annotated(annotations: object, uid: str, seen: float) -> object:
    """With the annotations of a static pod; what is no mapping is left for the check of types to refuse."""
    if annotations is not None and not isinstance(annotations, dict):
        return annotations
    given = {key: value for key, value in (annotations or {}).items() if key != MIRROR}
    return given | {SOURCE: "file", HASH: uid, SEEN: rfc3339_micro(seen)}


def _without_seen(metadata: Document) -> Document:
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key != SEEN}
    return metadata | {"annotations": annotations}


def _for_node(spec: Document, node_name: str) -> Document:
    made = spec | {"nodeName": node_name}
    tolerations = spec.get("tolerations", [])
    if isinstance(tolerations, list) and _TOLERATION not in tolerations:
        made["tolerations"] = [*tolerations, _TOLERATION]
    return made
