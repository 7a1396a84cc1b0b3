"""From bytes, cut anywhere, to frames.

It exists to read each byte once: the payload of a DATA frame is handed on as views of what came in, piece by
piece, so that no length makes anything be kept. It must not know streams, nor the order of frames.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vkubelet.server.streams.spdy import frames
from vkubelet.server.streams.spdy.error import SpdyError
from vkubelet.server.streams.spdy.frames import Data, Frame, Type
from vkubelet.server.streams.spdy.headers import HeaderDecompressor

MAX_CONTROL = 32 * 1024
"""Bytes of a control frame, behind its header. What is longer is no frame of the peers'."""

_HEADER = struct.Struct(">II")
_EMPTY = memoryview(b"")


class FrameDecoder:
    """The receiving direction of a connection. After a SpdyError it is of no more use."""

    def __init__(self) -> None:
        self._headers = HeaderDecompressor()
        self._partial = bytearray()
        # The control frame whose body is awaited: its first word, flags and length.
        self._control: tuple[int, int, int] | None = None
        # The DATA frame that is under way.
        self._stream_id = 0
        self._fin = False
        self._left = 0

    def decode(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes. Raises SpdyError; to be used up before the next call."""
        view = memoryview(data)
        at, end = 0, len(view)
        while at < end:
            if self._left:
                piece = view[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                yield Data(self._stream_id, piece, self._fin and not self._left)
                continue
            wanted = _HEADER.size if self._control is None else self._control[2]
            piece = view[at : at + wanted - len(self._partial)]
            at += len(piece)
            if self._partial or len(piece) < wanted:
                self._partial += piece
                if len(self._partial) < wanted:
                    return
                piece = memoryview(bytes(self._partial))
                self._partial.clear()
            frame = self._begin(piece) if self._control is None else self._end(piece)
            if frame is not None:
                yield frame

    def _begin(self, header: memoryview) -> Frame | None:
        first, second = _HEADER.unpack(header)
        flags, length = second >> 24, second & frames.MAX_LENGTH
        if first & frames.CONTROL_BIT:
            if (first >> 16) & 0x7FFF != frames.VERSION:
                raise SpdyError("a frame of another version")
            if length > MAX_CONTROL:
                raise SpdyError(f"a control frame of {length} bytes")
            self._control = first & 0xFFFF, flags, length
            return None if length else self._end(_EMPTY)
        if first == 0:
            raise SpdyError("data for the stream 0")
        self._stream_id, self._fin, self._left = first, bool(flags & frames.FLAG_FIN), length
        return None if length else Data(first, _EMPTY, self._fin)

    def _end(self, body: memoryview) -> Frame | None:
        assert self._control is not None  # noqa: S101  for the type checker
        kind, flags, _ = self._control
        self._control = None
        try:
            return self._control_frame(kind, flags, body)
        except struct.error as error:
            raise SpdyError("a control frame that is too short") from error

    def _control_frame(self, kind: int, flags: int, body: memoryview) -> Frame | None:
        """None for a type that is not known: those are to be ignored (draft, 2.2.1)."""
        match kind:
            case Type.SYN_STREAM | Type.SYN_REPLY | Type.HEADERS:
                return self._with_headers(kind, flags, body)
            case Type.RST_STREAM:
                stream_id, status = struct.unpack_from(">II", body)
                return frames.RstStream(_id(stream_id), status)
            case Type.SETTINGS:
                return _settings(flags, body)
            case Type.PING:
                (number,) = struct.unpack_from(">I", body)
                return frames.Ping(number)
            case Type.GOAWAY:
                last_good, status = struct.unpack_from(">II", body)
                return frames.GoAway(last_good & frames.MAX_STREAM_ID, status)
            case Type.WINDOW_UPDATE:
                stream_id, delta = struct.unpack_from(">II", body)
                return frames.WindowUpdate(stream_id & frames.MAX_STREAM_ID, delta & frames.MAX_WINDOW)
        return None

    def _with_headers(self, kind: int, flags: int, body: memoryview) -> Frame:
        fin = bool(flags & frames.FLAG_FIN)
        if kind == Type.SYN_STREAM:
            stream_id, associated, priority, slot = struct.unpack_from(">IIBB", body)
            return frames.SynStream(
                _id(stream_id),
                self._headers.decompress(body[10:]),
                fin,
                bool(flags & frames.FLAG_UNIDIRECTIONAL),
                associated & frames.MAX_STREAM_ID,
                priority >> 5,
                slot,
            )
        (stream_id,) = struct.unpack_from(">I", body)
        headers = self._headers.decompress(body[4:])
        made = frames.SynReply if kind == Type.SYN_REPLY else frames.HeadersFrame
        return made(_id(stream_id), headers, fin)


def _id(stream_id: int) -> int:
    """The stream's number without the reserved bit."""
    stream_id &= frames.MAX_STREAM_ID
    if not stream_id:
        raise SpdyError("a frame for the stream 0")
    return stream_id


def _settings(flags: int, body: memoryview) -> Frame:
    (count,) = struct.unpack_from(">I", body)
    if count * 8 != len(body) - 4:
        raise SpdyError("a SETTINGS frame whose count is not its length")
    entries = tuple(
        frames.Setting(first & 0xFF_FFFF, value, first >> 24)
        for first, value in struct.iter_unpack(">II", body[4:])
    )
    return frames.Settings(entries, bool(flags & frames.FLAG_CLEAR_SETTINGS))
