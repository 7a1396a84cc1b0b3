"""An HTTP request that becomes a SPDY connection.

It exists to take a connection over from the HTTP server whole: its transport, its flow control and its end.
It must not know what the streams carry. The HTTP server is told of the connection's end, as it must be: it
then ends the request, if that still runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import cast

from aiohttp import web

from vkubelet.server.streams import negotiation
from vkubelet.server.streams.connection import SpdyConnection
from vkubelet.server.streams.hangup import PATIENCE, HangUpWatch, keep_alive
from vkubelet.server.streams.spdy_stream import SpdyStream

HIGH_WATER = 256 * 1024
"""Bytes that may wait in the transport before writers do."""
CLOSE_TIMEOUT = 10.0
"""Seconds that the last bytes have to get away, once a connection is to be closed."""


class SwitchedResponse(web.StreamResponse):
    """The answer 101, behind which HTTP ends."""

    def __init__(self, protocol: str) -> None:
        super().__init__(
            status=101,
            headers={
                "Connection": "Upgrade",
                "Upgrade": negotiation.SPDY,
                negotiation.PROTOCOL: protocol,
            },
        )
        self.force_close()

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing: what follows is not HTTP."""


class TransportWire(asyncio.Protocol):
    """A connection that was HTTP's. Implements connection.Wire."""

    def __init__(self, transport: asyncio.Transport, previous: asyncio.Protocol) -> None:
        """`previous` is HTTP's protocol object."""
        self._transport = transport
        self._previous = previous
        self._connection: SpdyConnection | None = None
        self._reading = True
        self._patience: asyncio.TimerHandle | None = None
        self._watch: HangUpWatch | None = None
        self._closed = asyncio.Event()

    def take_over(self, connection: SpdyConnection) -> None:
        """From now on, what comes in goes to `connection`."""
        self._connection = connection
        keep_alive(self._transport)
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._transport.resume_reading()

    def write(self, *parts: bytes | memoryview) -> None:
        """See Wire."""
        if not self._transport.is_closing():
            self._transport.writelines(parts)

    def pause_reading(self) -> None:
        """See Wire."""
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()
            self._patience = asyncio.get_running_loop().call_later(PATIENCE, self._watch_client)

    def resume_reading(self) -> None:
        """See Wire."""
        self._unwatch_client()
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def flush(self) -> None:
        """See Wire."""
        # Not 0: asyncio's TLS takes an empty buffer for one that has reached it, and never resumes.
        self._transport.set_write_buffer_limits(high=1, low=0)

    async def close(self) -> None:
        """See Wire."""
        self._transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._closed.wait()

    def abort(self) -> None:
        """See Wire."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """The transport's."""
        if self._connection is not None:
            self._connection.feed(data)

    def pause_writing(self) -> None:
        """The transport's."""
        if self._connection is not None:
            self._connection.pause()

    def resume_writing(self) -> None:
        """The transport's."""
        if self._connection is not None:
            self._connection.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport's."""
        self._closed.set()
        self._unwatch_client()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lost()
        self._previous.connection_lost(exc)

    def _watch_client(self) -> None:
        if self._connection is not None:
            self._watch = HangUpWatch(self._transport, self._connection.hung_up)

    def _unwatch_client(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None


@contextlib.asynccontextmanager
async def upgraded(
    request: web.Request,
    response: SwitchedResponse,
    accept: Callable[[SpdyStream], bool],
    idle_timeout: float,
) -> AsyncIterator[SpdyConnection]:
    """Answer 101 and speak SPDY as long as the block runs. Raises ConnectionResetError: the client left.

    The block's orderly end is told to the client; its failure or cancellation ends the connection at once.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    wire = TransportWire(transport, cast(asyncio.Protocol, request.protocol))
    connection = SpdyConnection(wire, accept, idle_timeout)
    try:
        # First: no byte of the client's may reach HTTP's parser once it has seen the answer.
        wire.take_over(connection)
        await response.prepare(request)
        connection.start()
        yield connection
        await connection.finish()
    finally:
        connection.abort()
