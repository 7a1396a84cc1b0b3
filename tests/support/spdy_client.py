"""A client of SPDY streams over a real socket, as kubectl is one: it opens streams, sends, and collects."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable

from vkubelet.server.streams.spdy import frames
from vkubelet.server.streams.spdy.session import Session


class SpdyClient:
    """What has come in on each stream is in `received`; the streams at their end are in `ended`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.session = Session(client=True)
        self.received: dict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}
        self.replied: set[int] = set()
        self.pongs: set[int] = set()
        self.gone: frames.GoAway | None = None
        self.at_end = False

    async def open(self, *, fin: bool = False, **headers: str) -> int:
        stream_id, data = self.session.open({name: (value,) for name, value in headers.items()}, fin=fin)
        await self.send(data)
        return stream_id

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def write(self, stream_id: int, data: bytes, *, fin: bool = False) -> None:
        await self.send(self.session.data(stream_id, len(data), fin=fin) + data)

    async def pull(self) -> None:
        """Take what comes in next."""
        data = await self.reader.read(256 * 1024)
        self.at_end = self.at_end or not data
        for frame in self.session.receive(data):
            match frame:
                case frames.Data(stream_id, piece, fin):
                    if piece:
                        self.received[stream_id] += piece
                    if fin:
                        self.ended.add(stream_id)
                case frames.RstStream(stream_id, status):
                    self.reset[stream_id] = status
                    self.ended.add(stream_id)
                case frames.SynReply(stream_id):
                    self.replied.add(stream_id)
                case frames.Ping(number):
                    self.pongs.add(number)
                case frames.GoAway():
                    self.gone = frame

    async def until(self, condition: Callable[[], object]) -> None:
        """Take what comes in until `condition` holds; fail when the connection ends before."""
        async with asyncio.timeout(30):
            while not condition():
                assert not self.at_end, "the connection has ended"
                await self.pull()

    async def until_end(self) -> None:
        """Take what comes in until the server closes the connection, or has reset it."""
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                while not self.at_end:
                    await self.pull()


async def request(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    path: str,
    headers: dict[str, str],
) -> tuple[int, dict[str, str]]:
    """Send a request without a body; status and headers of the answer."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: node\r\n{lines}\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    answered = dict(line.split(": ", 1) for line in head[1:] if line)
    return int(head[0].split(" ")[1]), answered


@contextlib.asynccontextmanager
async def spdy_client(
    port: int,
    path: str,
    *,
    protocol: str = "v4.channel.k8s.io",
    tls: ssl.SSLContext | None = None,
    receive_buffer: int | None = None,
) -> AsyncIterator[SpdyClient]:
    """A connection that has been upgraded; it ends abruptly with the block.

    `receive_buffer` is the bytes that the kernel keeps for a client that does not read.
    """
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    name = "127.0.0.1" if tls else None
    reader, writer = await asyncio.open_connection(sock=connection, ssl=tls, server_hostname=name)
    try:
        async with asyncio.timeout(30):
            status, answered = await request(
                reader,
                writer,
                "POST",
                path,
                {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": protocol},
            )
        assert (status, answered["Upgrade"], answered["X-Stream-Protocol-Version"]) == (
            101,
            "SPDY/3.1",
            protocol,
        )
        yield SpdyClient(reader, writer)
    finally:
        writer.transport.abort()
