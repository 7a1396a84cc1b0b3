"""A connection's state: which streams are open, in which direction, and what may be sent.

It exists so that whoever moves the bytes need not know SPDY's rules. It must not know sockets, time or tasks:
it is told what came in, it says what that means, and it makes the bytes to send.

The peers do not use flow-control windows: they neither wait for one nor open one. So data is never held back
for a window here, and a peer that does respect them is told that ours has no bound in practice: at the start,
and again whenever half of it is used.
"""

from __future__ import annotations

from dataclasses import dataclass

from vkubelet.server.streams.spdy import frames
from vkubelet.server.streams.spdy.decoder import FrameDecoder
from vkubelet.server.streams.spdy.error import SpdyError
from vkubelet.server.streams.spdy.frames import Data, Frame, GoAwayStatus, ResetStatus
from vkubelet.server.streams.spdy.headers import HeaderCompressor, Headers

MAX_STREAMS = 1024
"""Streams that may be open at once; what is beyond is refused."""


@dataclass(slots=True)
class _Stream:
    sending: bool = True
    receiving: bool = True
    replied: bool = False
    received: int = 0


class Session:
    """One side of a connection. Raises SpdyError where the connection must end, and nothing else."""

    def __init__(self, *, client: bool = False, max_streams: int = MAX_STREAMS) -> None:
        """A client opens streams of odd numbers, a server of even ones."""
        self._decoder = FrameDecoder()
        self._compressor: HeaderCompressor | None = None
        self._streams: dict[int, _Stream] = {}
        self._parity = 1 if client else 0
        self._next_id = 1 if client else 2
        self._next_ping = 1 if client else 2
        self._last_opened = 0
        self._max_streams = max_streams
        self._going = False
        self._output = bytearray()

    def is_open(self, stream_id: int) -> bool:
        """Whether something may be sent or received on the stream."""
        return stream_id in self._streams

    def sending(self) -> tuple[int, ...]:
        """The streams on which something may be sent."""
        return tuple(stream_id for stream_id, stream in self._streams.items() if stream.sending)

    def receive(self, data: bytes) -> list[Frame]:
        """What `data` means, as frames that are valid now; the answers they ask for are in `take_output`.

        Frames that have no meaning any more, as for a stream that was reset, are left out.
        """
        accepted = (self._accept(frame) for frame in self._decoder.decode(data))
        return [frame for frame in accepted if frame is not None]

    def take_output(self) -> bytes:
        """What is to be sent on the protocol's own account: answers to pings, refusals of streams."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def start(self) -> bytes:
        """The connection's first bytes: a window without bound, for a peer that respects windows."""
        window = frames.Setting(frames.SettingId.INITIAL_WINDOW_SIZE, frames.MAX_WINDOW)
        return frames.encode(frames.Settings((window,)))

    def open(self, headers: Headers, *, fin: bool = False, unidirectional: bool = False) -> tuple[int, bytes]:
        """Open a stream: its number, and the bytes."""
        if self._going or self._next_id > frames.MAX_STREAM_ID:
            raise SpdyError("no stream can be opened any more")
        stream_id, self._next_id = self._next_id, self._next_id + 2
        self._streams[stream_id] = _Stream(sending=not fin, receiving=not unidirectional)
        self._drop_if_done(stream_id)
        return stream_id, self._encode(
            frames.SynStream(stream_id, headers, fin=fin, unidirectional=unidirectional)
        )

    def reply(self, stream_id: int, headers: Headers | None = None, *, fin: bool = False) -> bytes:
        """Accept a stream that the peer has opened. Before it no data may be sent on it."""
        stream = self._sending(stream_id)
        stream.replied = True
        self._sent(stream_id, stream, fin=fin)
        return self._encode(frames.SynReply(stream_id, headers or {}, fin=fin))

    def headers(self, stream_id: int, headers: Headers, *, fin: bool = False) -> bytes:
        """Send more headers."""
        self._sent(stream_id, self._sending(stream_id), fin=fin)
        return self._encode(frames.HeadersFrame(stream_id, headers, fin=fin))

    def data(self, stream_id: int, length: int, *, fin: bool = False) -> bytes:
        """The header of a DATA frame; the `length` bytes of its payload must follow at once."""
        if length > frames.MAX_LENGTH:
            raise SpdyError(f"a DATA frame of {length} bytes")
        self._sent(stream_id, self._sending(stream_id), fin=fin)
        return frames.data_header(stream_id, length, fin=fin)

    def reset(self, stream_id: int, status: ResetStatus = ResetStatus.CANCEL) -> bytes:
        """End a stream in both directions; for one that has ended, nothing."""
        if self._streams.pop(stream_id, None) is None:
            return b""
        return frames.encode(frames.RstStream(stream_id, status))

    def ping(self) -> tuple[int, bytes]:
        """Ask the peer for an answer: the number that it will come with, and the bytes."""
        number = self._next_ping
        self._next_ping = (number + 2) & frames.MAX_STREAM_ID or 2
        return number, frames.encode(frames.Ping(number))

    def go_away(self, status: GoAwayStatus = GoAwayStatus.OK) -> bytes:
        """Accept no more streams."""
        self._going = True
        return frames.encode(frames.GoAway(self._last_opened, status))

    def _accept(self, frame: Frame) -> Frame | None:
        match frame:
            case Data():
                return self._accept_data(frame)
            case frames.SynStream():
                return self._accept_stream(frame)
            case frames.SynReply():
                return self._accept_reply(frame)
            case frames.HeadersFrame(stream_id, _, fin):
                stream = self._streams.get(stream_id)
                if stream is None or not stream.receiving:
                    return None
                self._received(stream_id, stream, fin=fin)
            case frames.RstStream(stream_id, _):
                return frame if self._streams.pop(stream_id, None) else None
            case frames.Ping(number):
                if number % 2 != self._parity:
                    self._output += frames.encode(frame)
                    return None
            case frames.GoAway():
                self._going = True
            case frames.WindowUpdate() | frames.Settings():
                return None
        return frame

    def _accept_data(self, frame: Data) -> Frame | None:
        stream = self._streams.get(frame.stream_id)
        if stream is None:
            return None
        if not stream.receiving:
            self._output += self.reset(frame.stream_id, ResetStatus.STREAM_ALREADY_CLOSED)
            return frames.RstStream(frame.stream_id, ResetStatus.STREAM_ALREADY_CLOSED)
        stream.received += len(frame.data)
        if stream.received > frames.MAX_WINDOW // 2:
            self._output += frames.encode(frames.WindowUpdate(frame.stream_id, stream.received))
            stream.received = 0
        self._received(frame.stream_id, stream, fin=frame.fin)
        return frame if frame.fin or frame.data else None

    def _accept_stream(self, frame: frames.SynStream) -> Frame | None:
        if self._going:
            return None
        stream_id = frame.stream_id
        if stream_id % 2 == self._parity or stream_id <= self._last_opened:
            self._refuse(stream_id, ResetStatus.PROTOCOL_ERROR)
            return None
        self._last_opened = stream_id
        if len(self._streams) >= self._max_streams:
            self._refuse(stream_id, ResetStatus.REFUSED_STREAM)
            return None
        self._streams[stream_id] = _Stream(sending=not frame.unidirectional, receiving=not frame.fin)
        self._drop_if_done(stream_id)
        return frame if stream_id in self._streams else None

    def _accept_reply(self, frame: frames.SynReply) -> Frame | None:
        stream = self._streams.get(frame.stream_id)
        if stream is None or stream.replied or frame.stream_id % 2 != self._parity:
            return None
        stream.replied = True
        self._received(frame.stream_id, stream, fin=frame.fin)
        return frame

    def _refuse(self, stream_id: int, status: ResetStatus) -> None:
        self._output += frames.encode(frames.RstStream(stream_id, status))

    def _sending(self, stream_id: int) -> _Stream:
        stream = self._streams.get(stream_id)
        if stream is None or not stream.sending:
            raise SpdyError(f"nothing can be sent on the stream {stream_id} any more")
        return stream

    def _sent(self, stream_id: int, stream: _Stream, *, fin: bool) -> None:
        if fin:
            stream.sending = False
            self._drop_if_done(stream_id)

    def _received(self, stream_id: int, stream: _Stream, *, fin: bool) -> None:
        if fin:
            stream.receiving = False
            self._drop_if_done(stream_id)

    def _drop_if_done(self, stream_id: int) -> None:
        stream = self._streams[stream_id]
        if not stream.sending and not stream.receiving:
            del self._streams[stream_id]

    def _encode(self, frame: frames.HeaderFrame) -> bytes:
        if self._compressor is None:
            self._compressor = HeaderCompressor()
        return frames.encode_with_headers(frame, self._compressor.compress(frame.headers))
