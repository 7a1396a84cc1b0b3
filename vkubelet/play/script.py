"""What a file asks `vkubelet play` to run: its pods, and the config maps and secrets that they name; pure.

It exists so that a file written for a cluster means here what it can mean without one: workloads are run once
by their pod template, what only a cluster has is named and left out, and what is wrong is told with file,
object and field. It must not know how a pod is run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from vkubelet.api.configuration import ConfigMap, Secret
from vkubelet.api.references import Kind, Reference
from vkubelet.pods.manifests.errors import ManifestError
from vkubelet.pods.manifests.problems import Problems
from vkubelet.pods.manifests.reading import Manifest, complaint, read_pod, subject
from vkubelet.pods.manifests.text import Document

FILES = "file.vkubelet.local"
"""The registry of the names that modules on this machine get; no public registry can have this name."""

_WORKLOADS = ("DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")

T = TypeVar("T", ConfigMap, Secret)


@dataclasses.dataclass(frozen=True, slots=True)
class Script:
    """What to run. `files` are modules of this machine by the image names that the pods have for them.

    `notes` say what of the file is left out.
    """

    pods: tuple[Manifest, ...]
    objects: Mapping[Reference, ConfigMap | Secret]
    files: Mapping[str, Path]
    notes: tuple[str, ...]


def script(
    documents: Iterable[Document], source: str, directory: Path, node_name: str, new_uid: Callable[[], str]
) -> Script:
    """What the documents of the file `source` ask for; paths in them start at `directory`.

    Raises ManifestError.
    """
    pods: list[Manifest] = []
    objects: dict[Reference, ConfigMap | Secret] = {}
    files: dict[str, Path] = {}
    notes: list[str] = []
    for document in _flat(documents, source):
        kind = document.get("kind")
        if kind == "Pod" or kind in _WORKLOADS:
            made = document if kind == "Pod" else _templated(document, source, notes)
            placed = _placed(made, source, node_name, new_uid())
            pods.append(_read(_with_files(placed, directory, files), source, document))
        elif kind == "ConfigMap":
            _keep(objects, "configmaps", _config_map(document, source), document, source)
        elif kind == "Secret":
            _keep(objects, "secrets", _secret(document, source), document, source)
        else:
            notes.append(
                f"{subject(document) or 'a document without a kind'} is left out: there is no cluster"
            )
    if not pods:
        raise ManifestError(source, "", ["names no pod to run"])
    for first, second in _doubles(pods):
        raise ManifestError(source, f"Pod {second.pod.key}", [f"the file names {first.pod.key} twice"])
    return Script(tuple(pods), objects, files, tuple(notes))


def _flat(documents: Iterable[Document], source: str) -> Iterator[Document]:
    for document in documents:
        if document.get("kind") != "List":
            yield document
            continue
        items = document.get("items", [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ManifestError(source, "List", ["items: expected objects"])
        yield from items


def _templated(document: Document, source: str, notes: list[str]) -> Document:
    """The one pod of a workload, as podman names it."""
    name, spec = _section(document, "metadata").get("name"), _section(document, "spec")
    template = spec.get("template")
    if not isinstance(name, str) or not name:
        raise ManifestError(source, subject(document), ["metadata.name: Required value"])
    if not isinstance(template, dict):
        raise ManifestError(source, subject(document), ["spec.template: Required value"])
    many = [field for field in ("replicas", "completions", "parallelism") if spec.get(field, 1) not in (0, 1)]
    notes.extend(f"{subject(document)}: one pod is run, whatever spec.{field} says" for field in many)
    metadata = _section(template, "metadata") | {"name": f"{name}-pod"}
    if "namespace" in _section(document, "metadata"):
        metadata["namespace"] = _section(document, "metadata")["namespace"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec")}


def _placed(document: Document, source: str, node_name: str, uid: str) -> Document:
    """The pod as a scheduler and an API server leave it: on this node, with a uid."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise ManifestError(source, subject(document), ["metadata.name: Required value"])
    made = document | {"metadata": {"namespace": "default"} | metadata | {"uid": uid}}
    if isinstance(made.get("spec"), dict):
        made["spec"] = {"dnsPolicy": "Default"} | made["spec"] | {"nodeName": node_name}
    return made


def _with_files(document: Document, directory: Path, files: dict[str, Path]) -> Document:
    """The pod with names for images that are files here: `./hello.wasm`, `file:/srv/hello.wasm`.

    Our standard input is the only one that a container has, so that it ends with ours.
    """
    spec = document.get("spec")
    if not isinstance(spec, dict):
        return document
    made = dict(spec)
    for field in ("containers", "initContainers"):
        if isinstance(spec.get(field), list):
            made[field] = [_with_file(container, directory, files) for container in spec[field]]
    return document | {"spec": made}


def _with_file(container: Any, directory: Path, files: dict[str, Path]) -> Any:
    if not isinstance(container, dict):
        return container
    made = dict(container)
    if container.get("stdin") is True:
        made["stdinOnce"] = True
    image = container.get("image")
    if isinstance(image, str) and (path := _local(image)) is not None:
        place = directory / path
        name = image_name(place)
        files[name] = place
        made |= {"image": name, "imagePullPolicy": "IfNotPresent"}
    return made


def _local(image: str) -> Path | None:
    """The file that an image text means; None for a reference to a registry."""
    if image.startswith("file:"):
        return Path(image.removeprefix("file:").removeprefix("//"))
    return Path(image) if image.startswith(("./", "../", "/")) else None


def image_name(file: Path) -> str:
    """The image name of a module on this machine: its own, and what tells it from its namesakes."""
    words = _NOT_IN_A_NAME.sub("-", file.stem.lower()).strip("-") or "module"
    return f"{FILES}/{words}:{hashlib.sha256(bytes(file)).hexdigest()[:12]}"


def _read(document: Document, source: str, written: Document) -> Manifest:
    manifest = read_pod(document, source)
    prefix = "" if written.get("kind") == "Pod" else "spec.template."
    if manifest.unknown:
        fields = [f'unknown field "{prefix}{path}"' for path in manifest.unknown]
        raise ManifestError(source, subject(written), fields)
    return manifest


def _config_map(document: Document, source: str) -> ConfigMap:
    made = _converted(document, ConfigMap, {"data", "binaryData"}, source)
    _check_keys(document, [*(made.data or ()), *(made.binary_data or ())], source)
    return made


def _secret(document: Document, source: str) -> Secret:
    """The secret, with what it has as text beside what it has in base64."""
    texts = document.get("stringData", {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ManifestError(source, subject(document), ["stringData: expected strings"])
    made = _converted(document, Secret, {"data", "stringData", "type"}, source)
    made.data = (made.data or {}) | {key: text.encode() for key, text in texts.items()}
    _check_keys(document, made.data, source)
    return made


def _converted(document: Document, kind: type[T], fields: set[str], source: str) -> T:
    unknown = document.keys() - fields - {"apiVersion", "kind", "metadata", "immutable"}
    if unknown:
        named = [f'unknown field "{field}"' for field in sorted(unknown)]
        raise ManifestError(source, subject(document), named)
    try:
        made = msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise ManifestError(source, subject(document), [complaint(error)]) from error
    if not made.metadata.name:
        raise ManifestError(source, subject(document), ["metadata.name: Required value"])
    made.metadata.namespace = made.metadata.namespace or "default"
    return made


def _check_keys(document: Document, keys: Iterable[str], source: str) -> None:
    found = Problems()
    for key in keys:
        found.key(f"data[{key}]", key)
    if found.found:
        raise ManifestError(source, subject(document), found.found)


def _keep(
    objects: dict[Reference, ConfigMap | Secret],
    kind: Kind,
    made: ConfigMap | Secret,
    document: Document,
    source: str,
) -> None:
    reference = (kind, made.metadata.namespace, made.metadata.name)
    if reference in objects:
        raise ManifestError(source, subject(document), ["the file names it twice"])
    objects[reference] = made


def _doubles(pods: Iterable[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    seen: dict[str, Manifest] = {}
    for manifest in pods:
        first = seen.setdefault(manifest.pod.key, manifest)
        if first is not manifest:
            yield first, manifest


def _section(document: Document, field: str) -> Document:
    value = document.get(field)
    return value if isinstance(value, dict) else {}
