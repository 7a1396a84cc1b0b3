"""Protocol buffers for the few messages of plugins: a struct whose annotations carry the field numbers.

    class NodeGetInfoResponse(Message):
        node_id: Annotated[str, 1] = ""
        accessible_topology: Annotated[Topology | None, 3] = None

It exists because Google's library costs megabytes in an agent that may never meet a plugin, and its generated
code has no types. A field is a str, bytes, bool, int (of any width, or an enum), a message or None, a list of
str, bytes or messages, or a map from str to str or messages. It must not know what is sent where.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10


class Message(msgspec.Struct, kw_only=True):
    """The base of all messages: each field is `Annotated[TYPE, NUMBER]`, its default is its type's zero."""


AnyMessage = TypeVar("AnyMessage", bound=Message)


class DecodeError(Exception):
    """The bytes are no message of this type."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """`kind` is str, bytes, bool, int or a message's class: the field's, or that of what it is made of."""

    name: str
    kind: type
    is_list: bool
    is_map: bool


def encode(message: Message) -> bytes:
    """The message's bytes: fields in the order of their numbers, without those that are zero."""
    parts = bytearray()
    for number, field in _table(type(message)).items():
        value = getattr(message, field.name)
        if field.is_map:
            for key, item in value.items():
                _put(parts, number, _entry(key, item))
        elif field.is_list:
            for item in value:
                _put(parts, number, item)
        elif isinstance(value, Message) or value:
            # A message that is there counts, also an empty one.
            _put(parts, number, value)
    return bytes(parts)


def decode(data: bytes, kind: type[AnyMessage]) -> AnyMessage:
    """The message in these bytes; fields that are not known are passed over. Raises DecodeError."""
    table = _table(kind)
    values: dict[str, Any] = {}
    for number, wire, value in _fields(data):
        field = table.get(number)
        if field is None:
            continue
        if field.is_map:
            key, item = _pair(value, wire, field.kind)
            values.setdefault(field.name, {})[key] = item
        elif field.is_list:
            values.setdefault(field.name, []).append(_value(value, wire, field.kind))
        else:
            values[field.name] = _value(value, wire, field.kind)
    return kind(**values)


def _put(parts: bytearray, number: int, value: Any) -> None:
    if isinstance(value, int):
        parts += _varint(number << 3 | _VARINT)
        parts += _varint(int(value) & 0xFFFF_FFFF_FFFF_FFFF)
        return
    data = (
        encode(value) if isinstance(value, Message) else value.encode() if isinstance(value, str) else value
    )
    parts += _varint(number << 3 | _BYTES)
    parts += _varint(len(data))
    parts += data


def _entry(key: str, value: Any) -> bytes:
    """An entry of a map is a message of two fields."""
    parts = bytearray()
    _put(parts, 1, key)
    _put(parts, 2, value)
    return bytes(parts)


def _pair(value: int | bytes, wire: int, kind: type) -> tuple[str, Any]:
    key, item = "", kind()
    for number, inner_wire, inner in _fields(_bytes(value, wire)):
        if number == 1:
            key = _value(inner, inner_wire, str)
        elif number == 2:
            item = _value(inner, inner_wire, kind)
    return key, item


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Number, wire type and value of each field."""
    offset = 0
    while offset < len(data):
        tag, offset = _read_varint(data, offset)
        wire = tag & 7
        if wire == _VARINT:
            value, offset = _read_varint(data, offset)
            yield tag >> 3, wire, value
            continue
        if wire == _BYTES:
            length, offset = _read_varint(data, offset)
        elif wire in _WIDTHS:
            length = _WIDTHS[wire]
        else:
            raise DecodeError(f"a field of wire type {wire}")
        end = offset + length
        if end > len(data):
            raise DecodeError("the message is cut off")
        yield tag >> 3, wire, data[offset:end]
        offset = end


def _value(value: int | bytes, wire: int, kind: type) -> Any:
    if kind is bool or kind is int:
        if not isinstance(value, int):
            raise DecodeError(f"a number of wire type {wire}")
        return bool(value) if kind is bool else value - (1 << 64) if value >> 63 else value
    data = _bytes(value, wire)
    if kind is str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"text that is not UTF-8: {error}") from error
    return data if kind is bytes else decode(data, kind)


def _bytes(value: int | bytes, wire: int) -> bytes:
    if isinstance(value, int) or wire != _BYTES:
        raise DecodeError(f"a field of wire type {wire} where bytes are expected")
    return value


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    number = 0
    for index, byte in enumerate(data[offset : offset + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, offset + index + 1
    raise DecodeError("a number is cut off")


@functools.cache
def _table(kind: type[Message]) -> dict[int, _Field]:
    """The fields of a message by their numbers, in order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = dict(_field(name, hint) for name, hint in hints.items() if get_origin(hint) is Annotated)
    return dict(sorted(found.items()))


def _field(name: str, hint: Any) -> tuple[int, _Field]:
    annotated, number = get_args(hint)
    origin, inner = get_origin(annotated), get_args(annotated)
    if origin in (Union, types.UnionType):
        (annotated,) = (one for one in inner if one is not type(None))
    elif origin is list:
        (annotated,) = inner
    elif origin is dict:
        _, annotated = inner
    return number, _Field(name, annotated, origin is list, origin is dict)
