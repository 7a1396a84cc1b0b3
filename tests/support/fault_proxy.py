"""A proxy in front of a real HTTP server that fails as it is told, on the wire.

It exists because a real registry cannot be made to cut, stall or alter what it sends. It speaks just enough
HTTP to find where an answer's body begins; each connection carries one request.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field

from looping import looping

_HEAD = 64 * 1024


class Kind(enum.Enum):
    """What happens to an answer."""

    CUT = "cut"  # its connection is closed
    RESET = "reset"  # its connection is reset
    STALL = "stall"  # nothing more comes
    FLIP = "flip"  # one bit is another
    ANSWER = "answer"  # it is another one altogether


@dataclass
class Fault:
    """It befalls the next `times` answers to requests whose first line has `request` in it.

    `at` is how many bytes of the body come before it; `answer` is what is sent instead.
    """

    kind: Kind
    request: str
    at: int = 0
    times: int = 1
    answer: bytes = b""


@dataclass
class FaultProxy:
    """`faults` may be changed at any time. `requests` are the first lines of what was asked."""

    target: str
    address: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self.handle, "127.0.0.1", 0, limit=_HEAD)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    async def close(self) -> None:
        """Take no more connections. What is still copied ends with the loop."""
        assert self._server is not None
        self._server.close()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            line, _, rest = head.partition(b"\r\n")
            request = line.decode()
            self.requests.append(request)
            fault = self._fault(request)
            if fault is not None and fault.kind is Kind.ANSWER:
                writer.write(fault.answer)
                await writer.drain()
                return
            host, _, port = self.target.rpartition(":")
            from_server, to_server = await asyncio.open_connection(host, int(port), limit=_HEAD)
            with contextlib.closing(to_server):
                headers = [
                    one
                    for one in rest.split(b"\r\n")
                    if not one.lower().startswith((b"connection:", b"host:"))
                ]
                named = [b"Host: " + self.target.encode(), b"Connection: close"]
                to_server.write(b"\r\n".join([line, *named, *headers]))
                await asyncio.gather(
                    _copy(reader, to_server), self._answer(from_server, writer, fault), return_exceptions=True
                )

    async def _answer(
        self, server: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None
    ) -> None:
        writer.write(await server.readuntil(b"\r\n\r\n"))
        if fault is not None:
            writer.write(await server.readexactly(fault.at))
            await writer.drain()
            await _befall(fault.kind, server, writer)
            if fault.kind is not Kind.FLIP:
                return
        await _copy(server, writer)
        writer.close()

    def _fault(self, request: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.request in request:
                fault.times -= 1
                return fault
        return None


async def _befall(kind: Kind, server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if kind is Kind.FLIP:
        (byte,) = await server.readexactly(1)
        writer.write(bytes([byte ^ 1]))
    elif kind is Kind.STALL:
        await asyncio.Event().wait()  # until the client has enough of it, or the proxy ends
    else:
        if kind is Kind.RESET:
            raw: socket.socket = writer.get_extra_info("socket")
            while _unsent(raw):  # noqa: ASYNC110  a reset throws it away, and nothing tells when it is gone
                await asyncio.sleep(0.001)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()


def _unsent(connection: socket.socket) -> int:
    """Bytes that the other side's kernel has not got yet: SIOCOUTQ of tcp(7)."""
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_HEAD):
        writer.write(data)
        await writer.drain()


@contextlib.contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """One before `target`, `host:port`, on a loopback port of its own, in a thread of its own."""
    proxy = FaultProxy(target)
    with looping() as loop:
        loop.call(proxy.open())
        try:
            yield proxy
        finally:
            loop.call(proxy.close())
