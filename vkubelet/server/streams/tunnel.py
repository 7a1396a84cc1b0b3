"""A SPDY connection whose bytes travel in the binary messages of a WebSocket (KEP-4006).

It exists to be the Wire of such a connection: the boundaries of the messages mean nothing. It must not know
SPDY.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable

from aiohttp import WSMsgType, web

from vkubelet.server.streams.channel import CHUNK
from vkubelet.server.streams.connection import SpdyConnection
from vkubelet.server.streams.hangup import unless_hung_up
from vkubelet.server.streams.spdy_stream import SpdyStream
from vkubelet.server.streams.upgrade import CLOSE_TIMEOUT, HIGH_WATER


class MessageWire:
    """Implements connection.Wire. `run` moves the bytes."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        """`socket` is prepared; `transport` is its own."""
        self._socket = socket
        self._transport = transport
        self._connection: SpdyConnection | None = None
        self._waiting: deque[bytes | memoryview] = deque()
        self._size = 0
        self._high = HIGH_WATER
        self._paused = False
        self._closing = False
        self._written = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._reading = asyncio.Event()
        self._reading.set()

    async def run(self, connection: SpdyConnection) -> None:
        """Carry bytes for `connection` until the client closes the WebSocket; then that is lost."""
        self._connection = connection
        sending = asyncio.create_task(self._send(), name="tunnel send")
        receiving = asyncio.create_task(self._receive(), name="tunnel receive")
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.wait((sending, receiving))
            self._closing = True
            self._empty.set()
            connection.lost()

    def write(self, *parts: bytes | memoryview) -> None:
        """See Wire."""
        if self._closing:
            return
        self._waiting.extend(parts)
        self._size += sum(map(len, parts))
        self._empty.clear()
        self._written.set()
        self._flow()

    def pause_reading(self) -> None:
        """See Wire."""
        self._reading.clear()

    def resume_reading(self) -> None:
        """See Wire."""
        self._reading.set()

    def flush(self) -> None:
        """See Wire."""
        self._high = 0
        self._flow()

    async def close(self) -> None:
        """See Wire."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._empty.wait()
                self._closing = True
                await self._socket.close()

    def abort(self) -> None:
        """See Wire."""
        self._closing = True
        if not self._socket.closed:
            self._transport.abort()

    def _flow(self) -> None:
        if self._connection is None:
            return
        if not self._paused and self._size > self._high:
            self._paused = True
            self._connection.pause()
        elif self._paused and self._size <= self._high // 4:
            self._paused = False
            self._connection.resume()

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await self._written.wait()
                self._written.clear()
                while self._waiting:
                    await self._socket.send_bytes(self._next())
                    self._flow()
                self._empty.set()

    def _next(self) -> bytes:
        """A message of about CHUNK bytes."""
        parts = [self._waiting.popleft()]
        size = len(parts[0])
        while self._waiting and size < CHUNK:
            parts.append(self._waiting.popleft())
            size += len(parts[-1])
        self._size -= size
        return b"".join(parts)

    async def _receive(self) -> None:
        assert self._connection is not None  # noqa: S101  for the type checker
        while True:
            if not self._reading.is_set() and not await unless_hung_up(self._transport, self._reading.wait()):
                return
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                return
            self._connection.feed(message.data)


@contextlib.asynccontextmanager
async def tunnelled(
    socket: web.WebSocketResponse,
    transport: asyncio.Transport,
    accept: Callable[[SpdyStream], bool],
    idle_timeout: float,
) -> AsyncIterator[SpdyConnection]:
    """Speak SPDY through `socket` as long as the block runs; ends as upgrade.upgraded does."""
    wire = MessageWire(socket, transport)
    connection = SpdyConnection(wire, accept, idle_timeout)
    carrying = asyncio.create_task(wire.run(connection), name="tunnel")
    try:
        connection.start()
        yield connection
        await connection.finish()
    finally:
        connection.abort()
        carrying.cancel()
        await asyncio.wait([carrying])
