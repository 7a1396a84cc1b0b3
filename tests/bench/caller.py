"""One who calls the kubelet API as the API server does: over WebSocket, SPDY and plain HTTP.

Whoever asks for something else than what comes gets a BenchError, not a figure.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
from spdy_client import SpdyClient, spdy_client

from tests.bench.client import BenchError
from tests.bench.exec import CLOSE, ERROR, PROTOCOL, STDIN

RESIZE = 4
TUNNEL = "SPDY/3.1+portforward.k8s.io"
OUTPUT = {"output": "1"}
BOTH = {"input": "1", "output": "1"}
TERMINAL = {**BOTH, "tty": "1"}
"""Which streams a command or a container is asked for."""
Socket = aiohttp.ClientWebSocketResponse


@dataclass(frozen=True)
class Caller:
    """The node's port, and what is needed to call there."""

    session: aiohttp.ClientSession
    port: int
    tls: ssl.SSLContext

    def url(self, path: str) -> str:
        """Of a page of the node."""
        return f"https://127.0.0.1:{self.port}/{path}"

    async def text(self, path: str) -> str:
        """A page as a whole, which must be there."""
        async with self.session.get(self.url(path)) as answer:
            text = await answer.text()
            expect(answer.status, 200)
            return text

    async def status(self, path: str) -> int:
        """Of a page that is read as a whole."""
        async with self.session.get(self.url(path)) as answer:
            await answer.read()
            return answer.status

    @asynccontextmanager
    async def stream(
        self, kind: str, where: str, wanted: dict[str, str], command: Sequence[str] = ()
    ) -> AsyncIterator[Socket]:
        """The WebSocket of an exec or attach; `where` is POD/CONTAINER."""
        query = [*wanted.items(), *(("command", word) for word in command)]
        path = self.url(f"{kind}/default/{where}")
        async with self.session.ws_connect(
            path, params=query, protocols=[PROTOCOL], max_msg_size=0
        ) as socket:
            yield socket

    def exec(
        self, pod: str, *command: str, wanted: dict[str, str] = OUTPUT
    ) -> AbstractAsyncContextManager[Socket]:
        """The WebSocket of a command in a pod's container `main`."""
        return self.stream("exec", f"{pod}/main", wanted, command)

    def spdy(self, path: str, protocol: str) -> AbstractAsyncContextManager[SpdyClient]:
        """A SPDY connection, which ends abruptly with the block."""
        return spdy_client(self.port, f"/{path}", protocol=protocol, tls=self.tls)

    @asynccontextmanager
    async def tunnel(self, path: str) -> AsyncIterator[SpdyClient]:
        """A SPDY connection in a WebSocket, which ends abruptly with the block."""
        async with self.session.ws_connect(self.url(path), protocols=[TUNNEL], max_msg_size=0) as socket:
            expect(socket.protocol, TUNNEL)
            both = cast(Any, _Tunnel(socket))
            yield SpdyClient(both, both)
            vanish(socket)


class _Tunnel:
    """What SpdyClient has of a reader and a writer."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._unsent = b""

    async def read(self, _: int) -> bytes:
        message = await self._socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.BINARY else b""

    def write(self, data: bytes) -> None:
        self._unsent += data

    async def drain(self) -> None:
        data, self._unsent = self._unsent, b""
        await self._socket.send_bytes(data)


def expect(got: object, wanted: object) -> None:
    """Raises BenchError when something else has come."""
    if got != wanted:
        raise BenchError(f"{got!r} has come, expected was {wanted!r}")


async def send(socket: Socket, data: bytes, *, end: bool = False) -> None:
    """Standard input."""
    await socket.send_bytes(bytes((STDIN,)) + data)
    if end:
        await socket.send_bytes(bytes((CLOSE, STDIN)))


async def until(socket: Socket, text: bytes) -> None:
    """Take output until `text` is in it."""
    seen = b""
    while text not in seen:
        message = await socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY or (message.data[0] == ERROR and message.data[1:]):
            raise BenchError(f"the end has come before {text!r}: {seen!r}, {message.data!r}")
        seen += message.data[1:]


async def finish(socket: Socket, complaint: str = "") -> bytes:
    """The output until the status, which must be Success, or have `complaint` in its message."""
    seen = b""
    async for message in socket:
        if message.data[0] == ERROR and len(message.data) > 1:
            status = json.loads(message.data[1:])
            if (status["status"] == "Success") == bool(complaint) or complaint not in status.get(
                "message", ""
            ):
                raise BenchError(f"an unexpected status: {status}")
            return seen
        seen += message.data[1:]
    raise BenchError(f"the node closed the connection before it sent a status, after {seen!r}")


def vanish(answer: Socket | aiohttp.ClientResponse) -> None:
    """Be gone, without a word to the node."""
    response = answer._response if isinstance(answer, aiohttp.ClientWebSocketResponse) else answer
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
