"""A SPDY connection for tasks: streams that come in, back-pressure both ways, and an orderly end.

It exists between the protocol, which knows no tasks, and those who copy bytes. It must not know what carries
the bytes (a TLS connection, or the messages of a WebSocket): that is a Wire.

The streams of a connection share it, as those of the peers do: when the reader of one is behind, no more is
read for any.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from vkubelet.server.streams.channel import ChannelClosedError
from vkubelet.server.streams.idle import IdleTimer
from vkubelet.server.streams.spdy import frames
from vkubelet.server.streams.spdy.error import SpdyError
from vkubelet.server.streams.spdy.frames import Frame, GoAwayStatus
from vkubelet.server.streams.spdy.session import Session
from vkubelet.server.streams.spdy_stream import SpdyStream

logger = logging.getLogger(__name__)

MAX_ANSWERS = 64 * 1024
"""Bytes of answers to pings and the like that may wait to be sent before no more is read."""
LINGER = 5.0
"""Seconds that a client has to close the connection, once it is told that all is over. To close with input
unread would make the kernel reset the connection, and the client lose the last output."""


class Wire(Protocol):
    """What carries a connection's bytes. It calls what stands below "What the wire calls"."""

    def write(self, *parts: bytes | memoryview) -> None:
        """Send, without waiting; nothing, when the connection is gone."""
        ...

    def pause_reading(self) -> None:
        """Feed no more. May be called twice."""
        ...

    def resume_reading(self) -> None:
        """Feed again. May be called twice."""
        ...

    def flush(self) -> None:
        """From now on, `pause` as long as anything waits to be sent, and `resume` when nothing does."""
        ...

    async def close(self) -> None:
        """Send what is written, then end the connection; some seconds at most."""
        ...

    def abort(self) -> None:
        """End the connection at once; may be called twice."""
        ...


class SpdyConnection:
    """The server's side of a connection, from its upgrade to its end."""

    def __init__(self, wire: Wire, accept: Callable[[SpdyStream], bool], idle_timeout: float) -> None:
        """`accept` is told of each stream and says whether it is wanted; it must not block."""
        self._loop = asyncio.get_running_loop()
        self._wire = wire
        self._accept = accept
        self._session = Session()
        self._streams: dict[int, SpdyStream] = {}
        self._behind: set[int] = set()
        self._answers = 0
        self._paused = False
        self._silent = False
        self._over = asyncio.Event()
        self._writable: asyncio.Future[None] | None = None
        self._idle = IdleTimer(idle_timeout, self._expire)

    async def over(self) -> None:
        """Wait until the connection is gone or idle, or the peer has broken the protocol."""
        await self._over.wait()

    def start(self) -> None:
        """The upgrade is done: send the first bytes."""
        self._wire.write(self._session.start())

    async def finish(self) -> None:
        """Tell the client that all is over, see that it gets what was sent, and end the connection."""
        try:
            if not self._silent:
                for stream_id in self._session.sending():
                    self._wire.write(self._session.reset(stream_id))
                self._wire.write(self._session.go_away())
                self._end_streams()
                self._wire.flush()
                await self._drained()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINGER):
                        await self._over.wait()
            await self._wire.close()
        finally:
            self.abort()

    def abort(self) -> None:
        """End the connection at once; may be called twice."""
        self._wire.abort()
        self.lost()

    # What the wire calls.

    def feed(self, data: bytes) -> None:
        """`data` has come in."""
        self._idle.touch()
        if self._silent:
            return
        try:
            received = self._session.receive(data)
        except SpdyError as error:
            logger.debug("a SPDY client broke the protocol: %s", error)
            self._wire.write(self._session.go_away(GoAwayStatus.PROTOCOL_ERROR))
            self._end_streams()
            self._over.set()
            return
        for frame in received:
            self._dispatch(frame)
        answers = self._session.take_output()
        if answers:
            self._wire.write(answers)
            if self._paused:
                self._answers += len(answers)
                self._flow()

    def pause(self) -> None:
        """More than enough waits to be sent."""
        self._paused = True

    def resume(self) -> None:
        """More may be sent."""
        self._idle.touch()
        self._paused = False
        self._answers = 0
        self._flow()
        self._wake()

    def hung_up(self) -> None:
        """The client has gone, while nothing was read from it."""
        self._expire()

    def lost(self) -> None:
        """The connection is gone."""
        self._idle.stop()
        self._end_streams()
        self._over.set()

    # What the streams call: see spdy_stream.Shared.

    async def writable(self) -> None:
        """Wait until more may be sent. Raises ChannelClosedError when nothing can be any more."""
        # Others get their turn even when the peer takes everything at once.
        await asyncio.sleep(0)
        await self._drained()
        if self._silent:
            raise ChannelClosedError

    def send_data(self, stream_id: int, data: memoryview) -> None:
        """Send at most CHUNK bytes; `writable` has just returned."""
        self._idle.touch()
        self._wire.write(self._session.data(stream_id, len(data)), data)

    def send_end(self, stream_id: int) -> None:
        """Nothing more is sent on the stream."""
        if not self._silent:
            self._wire.write(self._session.data(stream_id, 0, fin=True))
            self._forget_closed(stream_id)

    def send_reset(self, stream_id: int) -> None:
        """The stream is ended in both directions."""
        if not self._silent:
            self._wire.write(self._session.reset(stream_id))
            self._forget_closed(stream_id)

    def behind(self, stream_id: int) -> None:
        """The stream's reader is behind."""
        self._behind.add(stream_id)
        self._flow()

    def caught_up(self, stream_id: int) -> None:
        """The stream's reader is not behind."""
        if stream_id in self._behind:
            self._behind.discard(stream_id)
            self._flow()

    def _dispatch(self, frame: Frame) -> None:
        match frame:
            case frames.SynStream():
                self._opened(frame)
            case frames.Data(stream_id, data, fin) if stream_id in self._streams:
                self._streams[stream_id].take(data)
                self._ended(stream_id, fin=fin)
            case frames.HeadersFrame(stream_id, _, fin) if stream_id in self._streams:
                self._ended(stream_id, fin=fin)
            case frames.RstStream(stream_id) if stream_id in self._streams:
                self._streams.pop(stream_id).end(reset=True)

    def _opened(self, frame: frames.SynStream) -> None:
        stream_id = frame.stream_id
        stream = SpdyStream(self, stream_id, frame.headers, ended=frame.fin, closed=frame.unidirectional)
        self._streams[stream_id] = stream
        if not self._accept(stream):
            stream.reset()
        elif not frame.unidirectional:
            self._wire.write(self._session.reply(stream_id))

    def _ended(self, stream_id: int, *, fin: bool) -> None:
        if fin:
            self._streams[stream_id].end()
            self._forget_closed(stream_id)

    def _forget_closed(self, stream_id: int) -> None:
        if not self._session.is_open(stream_id):
            self._streams.pop(stream_id, None)

    def _expire(self) -> None:
        self._over.set()
        self._wake()

    def _end_streams(self) -> None:
        """Nothing is sent on a stream any more, nor received."""
        self._silent = True
        for stream in self._streams.values():
            stream.end(reset=True)
        self._streams.clear()
        self._flow()
        self._wake()

    async def _drained(self) -> None:
        while self._paused and not self._over.is_set():
            if self._writable is None:
                self._writable = self._loop.create_future()
            # Several may wait: the end of one is no news for the others.
            await asyncio.shield(self._writable)

    def _flow(self) -> None:
        """Read, or do not."""
        if not self._silent and (self._behind or self._answers > MAX_ANSWERS):
            self._wire.pause_reading()
        else:
            self._wire.resume_reading()

    def _wake(self) -> None:
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None
