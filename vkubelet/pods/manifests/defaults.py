"""The values that an API server fills in where a pod's manifest says nothing; pure.

It exists because a pod that never meets an API server must mean the same as one that does. The rules are
those of Kubernetes' pkg/apis/core/v1 (SetObjectDefaults_Pod), as far as this node reads the fields. It works
on documents, so that what this node does not read stays in them. It must not know where they come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from oci.errors import InvalidReferenceError
from oci.reference import parse
from vkubelet.api.volumes import Volume
from vkubelet.pods.manifests.text import Document

TERMINATION_MESSAGE_PATH = "/dev/termination-log"
GRACE_PERIOD = 30
"""Seconds."""
_MODE = 0o644
_TOKEN_LIFE = 3600
"""Seconds."""
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


def with_defaults(document: Document) -> Document:
    """The pod with what its manifest leaves open. The document's types must have been checked."""
    return document | {"spec": _pod_spec(document["spec"])}


def pull_policy(image: str) -> str:
    """The imagePullPolicy of an image by its tag; a text that is no reference has none."""
    try:
        reference = parse(image)
    except InvalidReferenceError:
        return "IfNotPresent"
    return "Always" if reference.tag == "latest" else "IfNotPresent"


def _pod_spec(spec: Document) -> Document:
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    grace = spec.get("terminationGracePeriodSeconds", GRACE_PERIOD)
    made = _filled(
        spec,
        dnsPolicy="ClusterFirst",
        restartPolicy="Always",
        schedulerName="default-scheduler",
    )
    made |= {
        "securityContext": spec.get("securityContext", {}),
        "terminationGracePeriodSeconds": grace if grace >= 0 else 1,
        "enableServiceLinks": spec.get("enableServiceLinks", True),
    }
    if account:
        made |= {"serviceAccountName": account, "serviceAccount": account}
    for field in ("containers", "initContainers"):
        if field in spec:
            made[field] = [
                _container(container, host_network=spec.get("hostNetwork", False))
                for container in spec[field]
            ]
    if "volumes" in spec:
        made["volumes"] = [_volume(volume) for volume in spec["volumes"]]
    return made


def _container(container: Document, *, host_network: bool) -> Document:
    made = _filled(
        container,
        imagePullPolicy=pull_policy(container.get("image", "")),
        terminationMessagePath=TERMINATION_MESSAGE_PATH,
        terminationMessagePolicy="File",
    )
    if "ports" in container:
        made["ports"] = [_port(port, host_network=host_network) for port in container["ports"]]
    if "env" in container:
        made["env"] = [
            variable | {"valueFrom": _field_source(variable["valueFrom"])}
            if "valueFrom" in variable
            else variable
            for variable in container["env"]
        ]
    made |= {probe: _probe(container[probe]) for probe in _PROBES if probe in container}
    if "lifecycle" in container:
        made["lifecycle"] = {
            name: _handler(hook) if isinstance(hook, dict) else hook
            for name, hook in container["lifecycle"].items()
        }
    limits = container.get("resources", {}).get("limits")
    if limits:
        requests = limits | container["resources"].get("requests", {})
        made["resources"] = container["resources"] | {"requests": requests}
    return made


def _port(port: Document, *, host_network: bool) -> Document:
    made = _filled(port, protocol="TCP")
    if host_network and not port.get("hostPort") and "containerPort" in port:
        made["hostPort"] = port["containerPort"]
    return made


def _probe(probe: Document) -> Document:
    return _filled(_handler(probe), **_PROBE)


def _handler(handler: Document) -> Document:
    made = dict(handler)
    if "httpGet" in handler:
        made["httpGet"] = _filled(handler["httpGet"], path="/", scheme="HTTP")
    return made


def _field_source(source: Document) -> Document:
    """What has a `fieldRef`: of the version that there is."""
    if "fieldRef" not in source:
        return source
    return source | {"fieldRef": _filled(source["fieldRef"], apiVersion="v1")}


def _volume(volume: Document) -> Document:
    if not _kinds(volume):
        return volume | {"emptyDir": {}}
    made = dict(volume)
    for field in ("secret", "configMap", "downwardAPI", "projected"):
        if field in volume:
            made[field] = {"defaultMode": _MODE} | volume[field]
    if "downwardAPI" in volume:
        made["downwardAPI"] |= _items(volume["downwardAPI"])
    if "projected" in volume:
        made["projected"]["sources"] = [
            _projection(source) for source in volume["projected"].get("sources", ())
        ]
    if "hostPath" in volume:
        made["hostPath"] = {"type": ""} | volume["hostPath"]
    if "image" in volume:
        policy = pull_policy(volume["image"].get("reference", ""))
        made["image"] = _filled(volume["image"], pullPolicy=policy)
    return made


def _projection(source: Document) -> Document:
    made = dict(source)
    if "downwardAPI" in source:
        made["downwardAPI"] = source["downwardAPI"] | _items(source["downwardAPI"])
    if "serviceAccountToken" in source:
        made["serviceAccountToken"] = {"expirationSeconds": _TOKEN_LIFE} | source["serviceAccountToken"]
    return made


def _items(source: Document) -> Document:
    return {"items": [_field_source(item) for item in source["items"]]} if "items" in source else {}


def _kinds(volume: Document) -> Iterable[str]:
    return [field for field in Volume.__struct_encode_fields__ if field != "name" and field in volume]


def _filled(value: Mapping[str, Any], **defaults: Any) -> Document:
    """`value` with these where it says nothing, or what the API takes for nothing: empty text and 0."""
    return dict(value) | {name: default for name, default in defaults.items() if not value.get(name)}
