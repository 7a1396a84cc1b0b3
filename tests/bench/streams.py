"""How fast bytes go through the node's streams, against the floor: a bare copy of the same bytes by asyncio.

Run from the repository's root: `python -m tests.bench.streams [megabytes]`. Client and pod are processes of
their own, which do nothing but encrypt, send and take. Beside MB/s stand the MB for each second of the node's
own processor time: on a machine with other work that is the figure that holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import uvloop
from aiohttp import web

from tests.unit.server.conftest import Authority
from vkubelet.pods.interaction import Interaction, Interactions, Target, Wanted
from vkubelet.server.commands import CommandRoutes
from vkubelet.server.log_reader import LogReader
from vkubelet.server.portforward import PortForwardRoutes

CHUNK = 64 * 1024

POD = """
import socket, sys
direction, size = sys.argv[1], int(sys.argv[2])
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
connection = listening.accept()[0]
if direction == "up":
    buffer, total = bytearray(2**18), 0
    while total < size:
        total += connection.recv_into(buffer)
    connection.sendall(b".")
else:
    chunk = bytes(2**18)
    for _ in range(size // len(chunk)):
        connection.sendall(chunk)
connection.close()
"""

CLIENT = """
import socket, ssl, sys, time
sys.path.insert(0, ".")
from vkubelet.server.streams.spdy.session import Session
kind, direction, size, port, certificate, key, ca = sys.argv[1:]
size = int(size)
connection = socket.create_connection(("127.0.0.1", int(port)))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
if ca:
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate, key)
    connection = context.wrap_socket(connection, server_hostname="127.0.0.1")
buffer = bytearray(2**18)
frame = bytes(2**18)
if kind != "bare":
    path, protocol, names = {
        "forward": ("/portForward/default/web", "portforward.k8s.io", ("error", "data")),
        "exec": ("/exec/default/web/main?command=x&output=1", "v4.channel.k8s.io", ("error", "stdout")),
    }[kind]
    connection.sendall(
        f"POST {path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: Upgrade\\r\\nUpgrade: SPDY/3.1\\r\\n"
        f"X-Stream-Protocol-Version: {protocol}\\r\\n\\r\\n".encode()
    )
    assert b" 101 " in connection.recv(65536)
    session = Session(client=True)
    for name in names:
        headers = {"streamtype": (name,), "port": ("80",), "requestid": ("0",)}
        stream, data = session.open(headers)
        connection.sendall(data)
    # kubectl sends 32 KiB at a time.
    frame = (session.data(stream, 32768) + bytes(32768)) * 8
begin = time.perf_counter()
if direction == "up":
    for _ in range(size // 2**18):
        connection.sendall(frame)
    while b"." not in connection.recv(65536):
        pass
else:
    total = 0
    while total < size:
        total += connection.recv_into(buffer)
print(time.perf_counter() - begin)
"""


class Source:
    """A command whose output is always there. Implements interaction.Interaction as far as it is asked."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._chunk = bytes(CHUNK)

    async def read_stdout(self) -> bytes:
        self._left -= CHUNK
        return self._chunk if self._left >= 0 else b""

    async def wait(self) -> int:
        return 0


class Pods:
    """The pod that there is. Implements interaction.Interactions as far as it is asked."""

    def __init__(self) -> None:
        self.port = 0
        self.size = 0

    def check(self, _: Target) -> None:
        pass

    def check_pod(self, *_: object) -> None:
        pass

    @contextlib.asynccontextmanager
    async def exec(self, _target: Target, _command: object, _wanted: Wanted) -> AsyncIterator[Interaction]:
        yield cast(Interaction, Source(self.size))

    async def connect(self, *_: object) -> socket.socket:
        connection = socket.socket()
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        return connection


class Copy(asyncio.Protocol):
    """The floor: one side of a bare copy between two connections."""

    def __init__(self, pods: Pods, other: Copy | None = None) -> None:
        self._pods = pods
        self.other = other
        self.transport: asyncio.Transport | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=256 * 1024)
        if self.other is None:
            self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        other = Copy(self._pods, self)
        await loop.create_connection(lambda: other, "127.0.0.1", self._pods.port)
        assert other.transport is not None
        other.transport.write(self._early)
        self.other = other

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early += data
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode()


async def one(
    pods: Pods, port: int, kind: str, direction: str, size: int, files: list[str]
) -> tuple[float, float]:
    """MB/s, and MB for each second of this process' processor time."""
    pods.size = size
    pod = await asyncio.create_subprocess_exec(
        sys.executable, "-c", POD, direction, str(size), stdout=subprocess.PIPE
    )
    pods.port = int(await line(pod))
    before = resource.getrusage(resource.RUSAGE_SELF)
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, kind, direction, str(size), str(port), *files, stdout=subprocess.PIPE
    )
    seconds = float(await line(client))
    after = resource.getrusage(resource.RUSAGE_SELF)
    for process in (client, pod):
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return size / 1e6 / seconds, size / 1e6 / used


async def run(size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        authority = Authority(directory, "bench")
        serving = authority.server(authority.issue("node", serving=True))
        certificate, key = authority.issue("client")
        ca = directory / "ca.pem"
        ca.write_text(authority.pem)
        for security, context, files in (
            ("plain", None, ["", "", ""]),
            ("TLS", serving, [str(certificate), str(key), str(ca)]),
        ):
            await measure(security, context, files, size)


async def measure(security: str, context: ssl.SSLContext | None, files: list[str], size: int) -> None:
    pods = Pods()
    asked = cast(Interactions, pods)
    application = web.Application()
    reader = LogReader()
    for group in (CommandRoutes(asked, reader), PortForwardRoutes(asked)):
        application.add_routes(group.routes())
    runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening, ssl_context=context).start()
    loop = asyncio.get_running_loop()
    bare = await loop.create_server(lambda: Copy(pods), "127.0.0.1", 0, ssl=context)
    ports: dict[str, Any] = {"bare": bare.sockets[0].getsockname()[1]}
    ports["forward"] = ports["exec"] = listening.getsockname()[1]
    try:
        for direction in ("up", "down"):
            floor = await one(pods, ports["bare"], "bare", direction, size, files)
            print(
                f"{security:6} {direction:5} bare     {floor[0]:7.0f} MB/s {floor[1]:7.0f} MB/CPU-s",
                flush=True,
            )
            for kind in ("forward",) if direction == "up" else ("forward", "exec"):
                got = await one(pods, ports[kind], kind, direction, size, files)
                ratio = f"{got[0] / floor[0]:5.2f} {got[1] / floor[1]:5.2f}"
                print(
                    f"{security:6} {direction:5} {kind:8} {got[0]:7.0f} MB/s {got[1]:7.0f} MB/CPU-s  {ratio}",
                    flush=True,
                )
    finally:
        bare.close()
        await runner.cleanup()
        reader.close()


if __name__ == "__main__":
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    uvloop.run(run(megabytes * 2**20))
