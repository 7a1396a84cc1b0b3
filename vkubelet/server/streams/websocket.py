"""Channels as messages of a WebSocket: a message's first byte says which channel it is of.

It exists to give the WebSocket protocols of Kubernetes (wsstream) the same face as the streams of SPDY. It
must not know what the channels are for. There is one reader of the socket; when the reader of a channel is
behind, it waits, and TCP makes the client wait.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections import deque
from collections.abc import Collection

from aiohttp import WSMsgType, web

from vkubelet.server.streams.channel import CHUNK, ChannelClosedError
from vkubelet.server.streams.hangup import keep_alive, unless_hung_up
from vkubelet.server.streams.idle import IdleTimer
from vkubelet.server.streams.negotiation import websocket_protocol
from vkubelet.server.streams.racing import until

BUFFER = 64 * 1024
"""Bytes that a channel's reader may be behind before the next message is not looked at."""
MAX_MESSAGE = 32 * 1024 * 1024
"""Bytes of a message that is accepted: the limit of the kubelet's own library (x/net/websocket)."""
CLOSE_TIMEOUT = 5.0
"""Seconds that a client has to answer that the connection is closed."""
CLOSE_SIGNAL = 255
"""In place of a channel's number: the channel in the second byte is closed by the client (v5)."""

_NOTHING = memoryview(b"")


async def accept(
    request: web.Request, offered: Collection[str]
) -> tuple[web.WebSocketResponse, asyncio.Transport, str]:
    """Open a WebSocket: the socket, its transport, and the subprotocol that was agreed on.

    Raises RefusedError, aiohttp's HTTPException for a bad handshake, ConnectionResetError: the client left.
    """
    protocol = websocket_protocol(request, tuple(offered))
    socket = web.WebSocketResponse(
        timeout=CLOSE_TIMEOUT,
        protocols=(protocol,) if protocol else (),
        # A compressed message may inflate to anything, and the kubelet does not offer it.
        compress=False,
        max_msg_size=MAX_MESSAGE,
        # Each message waits while more than enough is on its way.
        writer_limit=1,
        decode_text=False,
    )
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    keep_alive(transport)
    await socket.prepare(request)
    return socket, transport, protocol


class WebSocketChannel:
    """One channel. Implements channel.Channel."""

    def __init__(self, connection: WebSocketChannels, number: int, *, readable: bool) -> None:
        """What comes in for a channel that is not `readable` is dropped."""
        self._connection = connection
        self._number = number
        self._chunks: deque[memoryview] = deque()
        self._buffered = 0
        self._ended = not readable
        self._closed = False
        self._arrived = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._caught_up.set()

    @property
    def broken(self) -> bool:
        """See Channel. A connection that ends takes its channels' readers with it."""
        return False

    async def read(self) -> memoryview:
        """See Channel."""
        while not self._chunks and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        if not self._chunks:
            return _NOTHING
        chunk = self._chunks.popleft()
        if len(chunk) > CHUNK:
            self._chunks.appendleft(chunk[CHUNK:])
            chunk = chunk[:CHUNK]
        self._buffered -= len(chunk)
        if self._buffered <= BUFFER:
            self._caught_up.set()
        return chunk

    async def write(self, data: bytes | memoryview) -> None:
        """See Channel. An empty message says that the channel is there."""
        view = memoryview(data)
        for start in range(0, len(view) or 1, CHUNK):
            if self._closed:
                raise ChannelClosedError
            await self._connection.send(self._number, view[start : start + CHUNK])

    def close(self) -> None:
        """See Channel. The protocols have no message for it."""
        self._closed = True

    def discard(self) -> None:
        """See Channel."""
        self.end()
        self._chunks.clear()
        self._buffered = 0
        self._caught_up.set()

    def end(self) -> None:
        """The connection's: nothing more comes in."""
        self._ended = True
        self._arrived.set()

    async def take(self, data: memoryview, transport: asyncio.Transport) -> bool:
        """The connection's: `data` has come in. Returns when the reader is not far behind.

        False if the client has gone by then.
        """
        if self._ended or not data:
            return True
        self._chunks.append(data)
        self._buffered += len(data)
        self._arrived.set()
        if self._buffered > BUFFER:
            self._caught_up.clear()
            return await unless_hung_up(transport, self._caught_up.wait())
        return True


class WebSocketChannels:
    """The channels of one connection, from its handshake to its end."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        readable: tuple[bool, ...],
        idle_timeout: float,
        *,
        text: bool = False,
        close_signal: bool = False,
    ) -> None:
        """`readable` tells for each channel whether the client may send on it. `transport` is the socket's.

        With `text` messages are in base64, behind a digit; with `close_signal` a client can close a channel.
        """
        self._socket = socket
        self._transport = transport
        self._text = text
        self._close_signal = close_signal
        self._expired = asyncio.Event()
        self._idle = IdleTimer(idle_timeout, self._expired.set)
        self.channels = tuple(
            WebSocketChannel(self, number, readable=may) for number, may in enumerate(readable)
        )

    async def over(self) -> None:
        """Take what comes in until the client has closed the connection, broken it, or left it idle."""
        receiving = asyncio.create_task(self._receive(), name="websocket receive")
        expiring = asyncio.create_task(self._expired.wait(), name="websocket idle")
        try:
            await asyncio.wait((receiving, expiring), return_when=asyncio.FIRST_COMPLETED)
        finally:
            receiving.cancel()
            expiring.cancel()
            await asyncio.wait((receiving, expiring))
        if not receiving.cancelled():
            receiving.result()

    async def send(self, number: int, data: memoryview) -> None:
        """Send a message; returns when more may be sent. Raises ChannelClosedError."""
        self._idle.touch()
        # Others get their turn even when the peer takes everything at once.
        await asyncio.sleep(0)
        try:
            if self._text:
                await self._socket.send_str(f"{number}{base64.b64encode(data).decode()}")
            else:
                await self._socket.send_bytes(b"".join((bytes((number,)), data)))
        except ConnectionError as error:
            raise ChannelClosedError from error
        self._idle.touch()

    async def close(self) -> None:
        """End the connection in order, when the client has been sent everything."""
        self._transport.set_write_buffer_limits(high=1, low=0)
        with contextlib.suppress(ConnectionError):
            # It waits for its turn behind all that was written.
            await until(self._wait_idle(), self._socket.ping())
        await self._socket.close()

    def release(self) -> None:
        """Let go of everything; the connection ends at once, unless it has ended in order."""
        self._idle.stop()
        if not self._socket.closed:
            self._transport.abort()

    async def _wait_idle(self) -> None:
        await self._expired.wait()

    async def _receive(self) -> None:
        async for message in self._socket:
            self._idle.touch()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return
            data = memoryview(message.data)
            if not data:
                continue
            if self._close_signal and data[0] == CLOSE_SIGNAL:
                if len(data) != 2 or data[1] >= len(self.channels):
                    return
                self.channels[data[1]].end()
                continue
            number = data[0] - ord("0") if self._text else data[0]
            if not 0 <= number < len(self.channels):
                continue
            payload = data[1:]
            if self._text:
                try:
                    payload = memoryview(base64.b64decode(payload, validate=True))
                except binascii.Error:
                    continue
            if not await self.channels[number].take(payload, self._transport):
                return
