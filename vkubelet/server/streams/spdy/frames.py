"""SPDY/3.1's frames as values, and how they are written.

It exists so that everything else handles values and not bytes. It must not know the order in which frames
may come.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field

from vkubelet.server.streams.spdy.headers import Headers

VERSION = 3
CONTROL_BIT = 0x8000_0000
MAX_STREAM_ID = 0x7FFF_FFFF
MAX_WINDOW = 0x7FFF_FFFF
MAX_LENGTH = 0xFF_FFFF
"""Bytes that a frame may have behind its eight bytes of header: the length has 24 bits."""

FLAG_FIN = 0x01
FLAG_UNIDIRECTIONAL = 0x02
FLAG_CLEAR_SETTINGS = 0x01


class Type(enum.IntEnum):
    """Types of control frames."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class ResetStatus(enum.IntEnum):
    """Why a stream is reset."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    UNSUPPORTED_VERSION = 4
    CANCEL = 5
    INTERNAL_ERROR = 6
    FLOW_CONTROL_ERROR = 7
    STREAM_IN_USE = 8
    STREAM_ALREADY_CLOSED = 9
    FRAME_TOO_LARGE = 11


class GoAwayStatus(enum.IntEnum):
    """Why a connection is ended."""

    OK = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


class SettingId(enum.IntEnum):
    """Settings that matter here; others are passed on as numbers."""

    MAX_CONCURRENT_STREAMS = 4
    INITIAL_WINDOW_SIZE = 7


@dataclass(frozen=True, slots=True)
class SynStream:
    """A stream is opened. With `unidirectional` the other side sends nothing on it."""

    stream_id: int
    headers: Headers = field(default_factory=dict)
    fin: bool = False
    unidirectional: bool = False
    associated_to: int = 0
    priority: int = 0
    slot: int = 0


@dataclass(frozen=True, slots=True)
class SynReply:
    """A stream is accepted."""

    stream_id: int
    headers: Headers = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True)
class RstStream:
    """A stream is ended in both directions. `status` is a ResetStatus, or a number that is none."""

    stream_id: int
    status: int


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting; `id` has 24 bits, `flags` 8, `value` 32."""

    id: int
    value: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the sender asks to be respected."""

    entries: tuple[Setting, ...]
    clear: bool = False


@dataclass(frozen=True, slots=True)
class Ping:
    """A question, or the answer to it: the id's parity is that of the asking side."""

    id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """No more streams are accepted; those after `last_good` were not looked at."""

    last_good: int
    status: int


@dataclass(frozen=True, slots=True)
class HeadersFrame:
    """More headers for a stream."""

    stream_id: int
    headers: Headers = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True)
class WindowUpdate:
    """The sender takes `delta` more bytes of a stream's data."""

    stream_id: int
    delta: int


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of a stream's data. A frame may arrive as several; the last one has its `fin`."""

    stream_id: int
    data: memoryview
    fin: bool = False


HeaderFrame = SynStream | SynReply | HeadersFrame
PlainFrame = RstStream | Settings | Ping | GoAway | WindowUpdate
Frame = HeaderFrame | PlainFrame | Data


def data_header(stream_id: int, length: int, *, fin: bool) -> bytes:
    """The eight bytes before a DATA frame's payload of `length` bytes."""
    return struct.pack(">II", stream_id, (FLAG_FIN << 24 if fin else 0) | length)


def encode(frame: PlainFrame) -> bytes:
    """A frame without headers, as bytes."""
    match frame:
        case RstStream(stream_id, status):
            return _control(Type.RST_STREAM, 0, struct.pack(">II", stream_id, status))
        case Settings(entries, clear):
            body = struct.pack(">I", len(entries)) + b"".join(
                struct.pack(">II", entry.flags << 24 | entry.id, entry.value) for entry in entries
            )
            return _control(Type.SETTINGS, FLAG_CLEAR_SETTINGS if clear else 0, body)
        case Ping(number):
            return _control(Type.PING, 0, struct.pack(">I", number))
        case GoAway(last_good, status):
            return _control(Type.GOAWAY, 0, struct.pack(">II", last_good, status))
        case WindowUpdate(stream_id, delta):
            return _control(Type.WINDOW_UPDATE, 0, struct.pack(">II", stream_id, delta))


def encode_with_headers(frame: HeaderFrame, block: bytes) -> bytes:
    """A frame with headers, as bytes; `block` is what its headers are compressed to."""
    flags = FLAG_FIN if frame.fin else 0
    match frame:
        case SynStream():
            flags |= FLAG_UNIDIRECTIONAL if frame.unidirectional else 0
            body = struct.pack(">IIBB", frame.stream_id, frame.associated_to, frame.priority << 5, frame.slot)
            return _control(Type.SYN_STREAM, flags, body + block)
        case SynReply():
            return _control(Type.SYN_REPLY, flags, struct.pack(">I", frame.stream_id) + block)
        case HeadersFrame():
            return _control(Type.HEADERS, flags, struct.pack(">I", frame.stream_id) + block)


def _control(kind: Type, flags: int, body: bytes) -> bytes:
    return struct.pack(">II", CONTROL_BIT | VERSION << 16 | kind, flags << 24 | len(body)) + body
