"""A pod from its manifest: types checked, defaults filled in, rules checked; pure.

It exists to hold the order of these steps, which is an API server's, in one place for all who read manifests.
It must not know files, nor what becomes of the pod.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import msgspec.inspect

from vkubelet.api.objects import Pod
from vkubelet.pods.manifests.defaults import with_defaults
from vkubelet.pods.manifests.errors import ManifestError
from vkubelet.pods.manifests.pod_rules import problems
from vkubelet.pods.manifests.text import Document

# What other parts of a cluster read, and a node has no use for.
_ELSEWHERE = {
    "ObjectMeta": {"clusterName", "generateName", "managedFields", "selfLink"},
    "OwnerReference": {"blockOwnerDeletion"},
    "PodSpec": {
        "evictionResponders",
        "preemptionPolicy",
        "schedulerName",
        "schedulingGates",
        "schedulingGroup",
        "serviceAccount",
        "topologySpreadConstraints",
        "workloadRef",
    },
    "EphemeralVolumeSource": {"readOnly"},
    "Pod": {"apiVersion", "kind", "status"},
}
# Amounts may be given as JSON numbers; in objects they are text.
_AMOUNTS = frozenset({"limits", "requests", "overhead"})
_AMOUNT = frozenset({"sizeLimit", "divisor"})
_PLACE = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """A pod that can be run: the whole document, which has what this node does not read too, and the pod.

    `unknown` are the document's fields that no pod has, or that this node does not know.
    """

    source: str
    document: Document
    pod: Pod
    unknown: tuple[str, ...] = ()


def subject(document: Document) -> str:
    """What an error calls a document: `Pod default/hello`."""
    kind, metadata = document.get("kind"), document.get("metadata")
    name = ""
    if isinstance(metadata, dict):
        parts = (metadata.get("namespace"), metadata.get("name"))
        name = "/".join(part for part in parts if isinstance(part, str) and part)
    return " ".join(part for part in (kind if isinstance(kind, str) else "", name) if part)


def read_pod(document: Document, source: str) -> Manifest:
    """The pod that a document of kind Pod describes. Raises ManifestError.

    What names it (metadata.name, namespace) must be final: it is checked.
    """
    named = subject(document)
    if (document.get("apiVersion"), document.get("kind")) != ("v1", "Pod"):
        shown = f"apiVersion {document.get('apiVersion')!r}, kind {document.get('kind')!r}"
        raise ManifestError(source, named, [f"expected a Pod of apiVersion v1, found {shown}"])
    document = {key: value for key, value in _textual(document).items() if key != "status"}
    document.setdefault("metadata", {})
    _converted(document, source, named)
    filled = with_defaults(document)
    pod = _converted(filled, source, named)
    found = problems(pod)
    if found:
        raise ManifestError(source, named, [f"invalid pod: {found[0]}", *found[1:]])
    return Manifest(source, filled, pod, tuple(unknown_fields(document)))


def unknown_fields(document: Document) -> Iterator[str]:
    """The paths of what is in a pod's document and in no pod; what it holds must be of the right types."""
    return _unknown(document, msgspec.inspect.type_info(Pod), "")


def _converted(document: Document, source: str, named: str) -> Pod:
    try:
        return msgspec.convert(document, Pod)
    except msgspec.ValidationError as error:
        raise ManifestError(source, named, [complaint(error)]) from error


def complaint(error: msgspec.ValidationError) -> str:
    """What msgspec says of a document in the API's order, `FIELD: what`, and words."""
    text = str(error)
    place = _PLACE.search(text)
    what = _PLACE.sub("", text).replace("`", "")
    for ours, theirs in (("str", "string"), ("int", "integer"), ("array", "list"), ("bool", "true or false")):
        what = re.sub(rf"\b{ours}\b", theirs, what)
    what = what.replace(" | null", "")  # nobody writes null for what may be left out
    what = what[:1].lower() + what[1:]
    return f"{place[1]}: {what}" if place is not None and place[1] else what


def _textual(value: Any) -> Any:
    """The document with amounts as text, and nothing shared with the one that was given."""
    if isinstance(value, list):
        return [_textual(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for key, item in value.items():
        if key in _AMOUNTS and isinstance(item, dict):
            made[key] = {name: _amount(amount) for name, amount in item.items()}
        elif key in _AMOUNT:
            made[key] = _amount(item)
        else:
            made[key] = _textual(item)
    return made


def _amount(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number else _textual(value)


def _unknown(value: Any, kind: msgspec.inspect.Type, path: str) -> Iterator[str]:
    if isinstance(kind, msgspec.inspect.UnionType):
        fitting = msgspec.inspect.DictType if isinstance(value, dict) else msgspec.inspect.ListType
        structs = (msgspec.inspect.StructType, fitting)
        for option in kind.types:
            if isinstance(option, structs):
                yield from _unknown(value, option, path)
        return
    if isinstance(kind, msgspec.inspect.ListType) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, kind.item_type, f"{path}[{index}]")
    elif isinstance(kind, msgspec.inspect.DictType) and isinstance(value, dict):
        for key, item in value.items():
            yield from _unknown(item, kind.value_type, f"{path}[{key}]")
    elif isinstance(kind, msgspec.inspect.StructType) and isinstance(value, dict):
        known = {field.encode_name: field.type for field in kind.fields}
        elsewhere = _ELSEWHERE.get(kind.cls.__name__, ())
        for key, item in value.items():
            inner = f"{path}.{key}" if path else key
            if key in known:
                if key not in elsewhere:
                    yield from _unknown(item, known[key], inner)
            elif key not in elsewhere:
                yield inner
