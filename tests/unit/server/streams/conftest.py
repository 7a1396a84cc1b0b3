"""The stream routes on a real socket, with and without TLS, before pods that are scripts of the test's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from vkubelet.pods.directory import LogSource
from vkubelet.pods.interaction import ForwardError, InteractionError, Target, Wanted
from vkubelet.server.app import RouteGroup
from vkubelet.server.commands import CommandRoutes
from vkubelet.server.log_reader import LogReader
from vkubelet.server.portforward import PortForwardRoutes
from vkubelet.server.streams import connection


class Run:
    """A command that runs: the test's script is the command. Implements interaction.Interaction.

    One chunk at most is on its way in each direction, so that a slow side is seen to stop the other.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.sizes: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self._in: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._out: dict[str, asyncio.Queue[bytes]] = {"stdout": asyncio.Queue(1), "stderr": asyncio.Queue(1)}
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.reads_input = True

    # The script's side.

    async def input(self) -> bytes:
        return await self._in.get()

    async def print(self, data: bytes, name: str = "stdout") -> None:
        await self._out[name].put(data)

    async def end(self, code: int | Exception) -> None:
        for name, queue in self._out.items():
            if getattr(self.wanted, name):
                await queue.put(b"")
        if isinstance(code, Exception):
            self._code.set_exception(code)
        else:
            self._code.set_result(code)

    # The server's side.

    async def read_stdout(self) -> bytes:
        return await self._out["stdout"].get() if self.wanted.stdout else b""

    async def read_stderr(self) -> bytes:
        return await self._out["stderr"].get() if self.wanted.stderr else b""

    async def write_stdin(self, data: bytes) -> None:
        assert 0 < len(data) <= 64 * 1024
        if not self.reads_input:
            raise BrokenPipeError
        await self._in.put(data)

    async def close_stdin(self) -> None:
        await self._in.put(b"")

    def resize(self, width: int, height: int) -> None:
        self.sizes.put_nowait((width, height))

    async def wait(self) -> int:
        return await asyncio.shield(self._code)


Script = Callable[[Run], Awaitable[int]]


async def nothing(_: Run) -> int:
    return 0


@dataclass
class Pods:
    """The pod default/web with the container main. Implements interaction.Interactions."""

    script: Script = nothing
    failure: Exception | None = None
    refusal: InteractionError | None = None
    tty: bool = False
    log: LogSource | None = None
    asked: list[tuple[object, ...]] = field(default_factory=list)
    running: int = 0
    left: int = 0
    ports: dict[int, int] = field(default_factory=dict)

    def check(self, target: Target) -> None:
        if self.refusal is not None:
            raise self.refusal
        if (target.namespace, target.pod) != ("default", "web"):
            raise InteractionError(404, "pod does not exist")

    def check_pod(self, namespace: str, pod: str, uid: str | None) -> None:
        self.check(Target(namespace, pod, uid, "main"))

    def logged(self, target: Target) -> LogSource | None:
        return self.log

    def has_tty(self, target: Target) -> bool:
        return self.tty

    @contextlib.asynccontextmanager
    async def exec(self, target: Target, command: tuple[str, ...], wanted: Wanted) -> AsyncIterator[Run]:
        self.asked.append((target, command, wanted))
        async with self._run(wanted) as run:
            yield run

    @contextlib.asynccontextmanager
    async def attach(self, target: Target, wanted: Wanted) -> AsyncIterator[Run]:
        self.asked.append((target, wanted))
        async with self._run(wanted) as run:
            yield run

    @contextlib.asynccontextmanager
    async def _run(self, wanted: Wanted) -> AsyncIterator[Run]:
        if self.failure is not None:
            raise self.failure
        run = Run(wanted)

        async def play() -> None:
            try:
                code: int | Exception = await self.script(run)
            except Exception as error:  # noqa: BLE001  the script says how it fails
                code = error
            await run.end(code)

        playing = asyncio.create_task(play(), name="the test's script")
        self.running += 1
        try:
            yield run
        finally:
            playing.cancel()
            await asyncio.wait([playing])
            self.running -= 1
            self.left += 1

    async def connect(self, namespace: str, pod: str, uid: str | None, port: int) -> socket.socket:
        if port not in self.ports:
            raise ForwardError(f"failed to connect to port {port} of the pod: connection refused")
        made = socket.socket()
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self.ports[port]))
        except BaseException:
            made.close()
            raise
        return made


@dataclass
class Streams:
    """A running server and what a test needs to call it."""

    pods: Pods
    port: int
    tls: ssl.SSLContext | None
    commands: CommandRoutes
    forwards: PortForwardRoutes


def descriptors() -> set[str]:
    """The pipes and TCP sockets that this process has open; an event loop has others of its own."""
    found = set()
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    network = {f"socket:[{line.split()[9]}]" for line in lines}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            link = os.readlink(entry)  # noqa: PTH115  a socket's link is no path
            if link.startswith("pipe:") or link in network:
                found.add(f"{entry.name} {link}")
    return found


@pytest.fixture
def pods() -> Pods:
    return Pods()


@pytest.fixture(params=["tls", "plain"])
async def streams(
    request, pods, authority, server_files, client_files, eventually, monkeypatch
) -> AsyncIterator[Streams]:
    """The server; after the test, nothing of what the test used may be left."""
    monkeypatch.setattr(connection, "LINGER", 0.1)
    secure = request.param == "tls"
    tasks = asyncio.all_tasks()
    await asyncio.sleep(0)
    before = descriptors()
    reader = LogReader()
    commands = CommandRoutes(pods, reader, idle_timeout=60)
    application = web.Application()
    forwards = PortForwardRoutes(pods, idle_timeout=60)
    for group in (commands, forwards):
        application.add_routes(group.routes())
        application.on_shutdown.append(_ending(group))
    runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    # Its connections inherit it: with less in the kernel, a client that does not read is felt sooner.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    context = authority.server(server_files) if secure else None
    await web.SockSite(runner, listening, ssl_context=context).start()
    port = listening.getsockname()[1]
    try:
        yield Streams(pods, port, authority.client(client_files) if secure else None, commands, forwards)
        await eventually(lambda: pods.running == 0)
    finally:
        await runner.cleanup()
        reader.close()
    await eventually(lambda: not asyncio.all_tasks() - tasks - {asyncio.current_task()})
    await eventually(lambda: descriptors() <= before)


def _ending(group: RouteGroup) -> Callable[[web.Application], Awaitable[None]]:
    async def end(_: web.Application) -> None:
        group.end()

    return end
