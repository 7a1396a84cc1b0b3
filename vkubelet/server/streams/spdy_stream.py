"""A stream of a SPDY connection for tasks: what has come in waits here for its reader.

It exists apart from the connection so that each holds one idea: here the buffer of one stream, there what all
streams share. It must not know frames, nor what carries them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from vkubelet.server.streams.channel import CHUNK, ChannelClosedError
from vkubelet.server.streams.spdy.headers import Headers

BUFFER = 64 * 1024
"""Bytes that a stream's reader may be behind before no more is read from the connection."""

_NOTHING = memoryview(b"")


class Shared(Protocol):
    """What a stream asks of its connection."""

    async def writable(self) -> None:
        """Wait until more may be sent. Raises ChannelClosedError."""
        ...

    def send_data(self, stream_id: int, data: memoryview) -> None:
        """Send at most CHUNK bytes; `writable` has just returned."""
        ...

    def send_end(self, stream_id: int) -> None:
        """Send that nothing more is sent on the stream."""
        ...

    def send_reset(self, stream_id: int) -> None:
        """Send that the stream is ended in both directions."""
        ...

    def behind(self, stream_id: int) -> None:
        """The stream's reader is behind."""
        ...

    def caught_up(self, stream_id: int) -> None:
        """The stream's reader is not behind."""
        ...


class SpdyStream:
    """A stream that the peer has opened. Implements channel.Channel."""

    def __init__(
        self, connection: Shared, stream_id: int, headers: Headers, *, ended: bool, closed: bool
    ) -> None:
        """`ended`: nothing will come in; `closed`: nothing may be sent."""
        self.id = stream_id
        self.headers = headers
        self._broken = False
        self._connection = connection
        self._chunks: deque[memoryview] = deque()
        self._buffered = 0
        self._ended = ended
        self._closed = closed
        self._discarding = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def broken(self) -> bool:
        """See Channel."""
        return self._broken

    def header(self, name: str) -> str:
        """The first value of a header, whose name is in lower case; empty if there is none."""
        return self.headers.get(name, ("",))[0]

    async def read(self) -> memoryview:
        """See Channel."""
        while not self._chunks and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._chunks:
            return _NOTHING
        chunk = self._chunks.popleft()
        if len(chunk) > CHUNK:
            self._chunks.appendleft(chunk[CHUNK:])
            chunk = chunk[:CHUNK]
        self._taken(len(chunk))
        return chunk

    async def write(self, data: bytes | memoryview) -> None:
        """See Channel."""
        view = memoryview(data)
        for start in range(0, len(view), CHUNK):
            await self._connection.writable()
            if self._closed:
                raise ChannelClosedError
            self._connection.send_data(self.id, view[start : start + CHUNK])

    def close(self) -> None:
        """See Channel."""
        if not self._closed:
            self._closed = True
            self._connection.send_end(self.id)

    def reset(self) -> None:
        """End the stream in both directions; may be called twice."""
        self._connection.send_reset(self.id)
        self.end(reset=True)

    def discard(self) -> None:
        """See Channel."""
        self._discarding = True
        self._drop()

    def take(self, data: memoryview) -> None:
        """The connection's: `data` has come in."""
        if self._discarding or not data:
            return
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > BUFFER:
            self._connection.behind(self.id)
        self._wake()

    def end(self, *, reset: bool = False) -> None:
        """The connection's: nothing more comes in; with `reset`, nothing goes out either."""
        if reset:
            self._broken = self._closed = True
            self._drop()
        self._ended = True
        self._wake()

    def _drop(self) -> None:
        self._chunks.clear()
        self._taken(self._buffered)

    def _taken(self, count: int) -> None:
        self._buffered -= count
        if self._buffered <= BUFFER // 2:
            self._connection.caught_up(self.id)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
