"""YAML and JSON read as Kubernetes reads them: documents of plain JSON values.

It exists because a YAML library's own way to build objects is not Kubernetes' (dates, sexagesimal numbers,
keys that are given twice), and because a file must not cost more than its size: it is read as a stream of
events, with a limit of depth and of what aliases stand for. It must not know what the documents say.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec
import yaml

from vkubelet.pods.manifests.errors import ManifestError

Document: TypeAlias = dict[str, Any]
"""A JSON object; what is null in it is left out, as the API's decoder does."""

LARGEST = 10 * 1024 * 1024
"""Bytes of a manifest: the kubelet's limit."""
_DEEPEST = 200
_MOST = 400_000
"""Values in one file, those counted again that an alias repeats."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF"), False),
}
"""Plain words that are no strings, by the YAML 1.1 that Kubernetes' own reader goes by."""
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF|nan|NaN|NAN)")


class _UnusableError(Exception):
    """The text is no document; says why and where."""


def documents(data: bytes, source: str) -> list[Document]:
    """The objects in a file, in order; empty documents are left out. Raises ManifestError naming `source`."""
    if len(data) > LARGEST:
        raise ManifestError(source, "", [f"larger than {LARGEST} bytes"])
    try:
        found = _from_json(data) or list(_from_yaml(data))
    except _UnusableError as error:
        raise ManifestError(source, "", [str(error)]) from error
    except yaml.YAMLError as error:
        raise ManifestError(source, "", [_plain(error)]) from error
    for document in found:
        if not isinstance(document, dict):
            raise ManifestError(source, "", [f"expected an object, found {_kind(document)}"])
    return found


def _from_json(data: bytes) -> list[Document] | None:
    """The one object of a file that is JSON: YAML's readers do not take all of that."""
    if not data.lstrip().startswith(b"{"):
        return None
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [_without_nulls(msgspec.json.decode(data))]
    return None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True, slots=True)
class _Anchored:
    """What an alias stands for: a value, how many values that is, and how deep they are nested."""

    value: Any
    size: int
    height: int


_MERGE = object()
"""The key `<<`."""


@dataclasses.dataclass(slots=True)
class _Open:
    """A collection that has begun and not ended; `key` is that of the mapping's value that comes next."""

    value: dict[str, Any] | list[Any]
    anchor: str | None
    began: int
    key: Any = None
    height: int = 1
    merged: dict[str, Any] = dataclasses.field(default_factory=dict)


class _Builder:
    """Builds one document from its events."""

    def __init__(self, count: int) -> None:
        """`count` values came before, in other documents."""
        self.count = count
        self.result: Any = None
        self._open: list[_Open] = []
        self._anchors: dict[str, _Anchored | None] = {}

    def take(self, event: Any) -> None:
        """One event. Raises _UnusableError."""
        if isinstance(event, yaml.ScalarEvent):
            self._count(event, 1)
            self._ended(event, event.anchor, _Anchored(_scalar(event), 1, 0))
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._end(event)
        elif isinstance(event, yaml.AliasEvent):
            known = self._anchors.get(event.anchor or "")
            if known is None:
                raise _at(event, f"the alias {event.anchor!r} stands for nothing, or for what it is in")
            self._count(event, known.size)
            self._ended(event, None, known)

    def _begin(self, event: Any) -> None:
        self._count(event, 1)
        wanted = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
        if event.tag not in (None, "!", _TAG + wanted):
            raise _at(event, f"the tag {event.tag!r} has no meaning in a manifest")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append(_Open({} if wanted == "map" else [], event.anchor, self.count - 1))
        self._check_depth(event, 0)

    def _end(self, event: Any) -> None:
        ended = self._open.pop()
        value = ended.value
        if isinstance(value, dict):
            value = {key: item for key, item in (ended.merged | value).items() if item is not None}
        self._ended(event, ended.anchor, _Anchored(value, self.count - ended.began, ended.height))

    def _ended(self, event: Any, anchor: str | None, item: _Anchored) -> None:
        """A value is whole: it is the document, an element, a key or a key's value."""
        self._check_depth(event, item.height)
        if anchor is not None:
            self._anchors[anchor] = item
        if not self._open:
            self.result = item.value
            return
        parent = self._open[-1]
        parent.height = max(parent.height, item.height + 1)
        if isinstance(parent.value, list):
            parent.value.append(item.value)
        elif parent.key is None:
            parent.key = _key(event, item.value, parent.value)
        elif parent.key is _MERGE:
            parent.key = None
            _merge(event, parent.merged, item.value)
        else:
            parent.value[parent.key] = item.value
            parent.key = None

    def _check_depth(self, event: Any, more: int) -> None:
        if len(self._open) + more > _DEEPEST:
            raise _at(event, f"nested deeper than {_DEEPEST} levels")

    def _count(self, event: Any, more: int) -> None:
        self.count += more
        if self.count > _MOST:
            raise _at(event, f"more than {_MOST} values, those that aliases repeat included")


def _from_yaml(data: bytes) -> Iterator[Any]:
    builder = _Builder(0)
    for event in yaml.parse(data, Loader=_LOADER):
        if isinstance(event, yaml.DocumentStartEvent):
            builder = _Builder(builder.count)
        elif isinstance(event, yaml.DocumentEndEvent):
            if builder.result is not None:
                yield builder.result
        else:
            builder.take(event)


def _key(event: Any, value: Any, before: dict[str, Any]) -> Any:
    """A mapping's key, as a string: numbers and truth values become what JSON would show."""
    if value == "<<" and isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
        return _MERGE
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        raise _at(event, "a key must be a string")
    if value in before:
        raise _at(event, f"the key {value!r} is given twice")
    return value


def _merge(event: Any, merged: dict[str, Any], value: Any) -> None:
    """What `<<` brings in: the first of several counts, and what the mapping itself says before them."""
    for source in value if isinstance(value, list) else [value]:
        if not isinstance(source, dict):
            raise _at(event, "what `<<` merges must be a mapping")
        for key, item in source.items():
            merged.setdefault(key, item)


def _scalar(event: Any) -> Any:
    """What a scalar says, by its tag or, where it is plain, by its looks."""
    text = event.value
    if event.tag in (None, "!"):
        plain = event.implicit[0] and event.tag is None
        return _resolved(event, text) if plain else text
    value = text if event.tag == _TAG + "str" else _resolved(event, text)
    wanted = {"str": str, "bool": bool, "int": int, "float": int | float, "null": type(None)}
    kind = wanted.get(event.tag.removeprefix(_TAG))
    if kind is None or not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise _at(event, f"{text[:40]!r} cannot be read as {event.tag!r} in a manifest")
    return value


def _resolved(event: Any, text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if not text or text[0] not in "+-.0123456789":
        return text
    plain = text.replace("_", "")
    if _INTEGER.fullmatch(plain):
        digits = plain.lstrip("+-")
        octal = len(digits) > 1 and digits[0] == "0" and digits[1] in "01234567"
        value = int(digits, 8) if octal else int(digits, 0)
        return -value if plain[0] == "-" else value
    if _SPECIAL.fullmatch(text):
        raise _at(event, f"{text} is no number in JSON")
    if _FLOAT.fullmatch(plain):
        number = float(plain)
        if not math.isfinite(number):
            raise _at(event, f"{text[:40]} is no number in JSON")
        return number
    return text


def _at(event: Any, what: str) -> _UnusableError:
    return _UnusableError(f"line {event.start_mark.line + 1}: {what}")


def _plain(error: yaml.YAMLError) -> str:
    """A parser's complaint in one line, with the line where it was made."""
    if isinstance(error, yaml.MarkedYAMLError):
        what = ", ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        return f"line {mark.line + 1}: {what}" if mark is not None else what
    return " ".join(str(error).split())


def _kind(value: Any) -> str:
    return {list: "a list", str: "a string", bool: "a truth value"}.get(type(value), "a number")
