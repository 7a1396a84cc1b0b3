"""What probes cost the node: httpGet and tcpSocket against bare sockets, and an exec.

    python -m tests.bench.probes [SECONDS]

Each of 1,000 pods is probed once a second, by the node's own scheduler, with events and counters. What is
given is the share of a core that the node's process uses meanwhile, and how often that is what the same
exchanges cost over bare sockets in the same run. For exec it is the processor time of each probe in the
agent, the launcher and the instance together, with a process that is kept, as probes of a short period have
it, and with one for each. What is probed runs in processes of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from guests import build_guest

from providers.base import ContainerState, Identity
from tests.bench.provider_rate import TMPFS, Bench
from vkubelet.api.containers import ExecAction, Probe
from vkubelet.api.objects import Pod
from vkubelet.pods import records
from vkubelet.pods.backoff import Backoff
from vkubelet.pods.commands import Commands
from vkubelet.pods.kept import KeptCommands
from vkubelet.pods.probes.checks import KEPT_PERIOD, Check, Checks
from vkubelet.pods.probes.outcome import Result
from vkubelet.pods.probes.report import Report
from vkubelet.pods.probes.runner import ProbeRunner
from vkubelet.pods.running import RunningContainer
from vkubelet.toolbox import Toolbox

PODS = 1000
EXECS = 500
COMMANDS = {
    "the container's own module": ("actor", "exit", "0"),
    "a toolbox command": ("true",),
    "a toolbox command that reads a file": ("cat", "/dev/null"),
}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: floor\r\nConnection: close\r\n\r\n"
SERVER = f"""
import asyncio, uvloop
class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write({ANSWER!r})
        self.transport.close()
async def main():
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
uvloop.run(main())
"""


class Nobody:
    """Takes events in and forgets them."""

    def event(self, ref: Any, kind: str, reason: str, message: str) -> None:
        print(f"unexpected event {reason}: {message}", file=sys.stderr)


def pod(number: int, **probe: Any) -> Pod:
    """A pod whose container has one readiness probe, each second."""
    container = {"name": "main", "image": "x", "readinessProbe": {"periodSeconds": 1, **probe}}
    document = {
        "metadata": {"name": f"p{number}", "namespace": "default", "uid": f"{number:036}"},
        "spec": {"hostNetwork": True, "containers": [container]},
    }
    return msgspec.convert(document, Pod)


def running(of: Pod, state: ContainerState, info: Path) -> RunningContainer:
    """Its container, as probes see it."""
    return RunningContainer((of.spec.containers or [])[0], state, 0, asyncio.Event(), lambda: info)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """A web server in a process of its own; gives its port."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def node(seconds: float, **probe: Any) -> float:
    """Processor seconds of the node for each probe of PODS pods that are probed once a second."""
    runner = ProbeRunner(Checks(Any, Any, "127.0.0.1"), Report(Nobody()))  # type: ignore[arg-type]
    task = asyncio.create_task(runner.run())
    await asyncio.sleep(0)
    ready: set[str] = set()
    for number in range(PODS):
        probed = pod(number, **probe)
        state = ContainerState(f"{number:064}", {}, Path("/"), 0, time.time_ns())
        container = running(probed, state, Path("/"))
        runner.start(probed, container.spec, container, lambda *_, uid=state.id: ready.add(uid))
        await asyncio.sleep(1 / PODS)
    await asyncio.sleep(1)
    began = time.process_time()
    await asyncio.sleep(seconds)
    used = time.process_time() - began
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if len(ready) != PODS:
        raise RuntimeError(f"{PODS - len(ready)} probes did not succeed")
    return used / (PODS * seconds)


class Bare:
    """The same exchange with nothing around it: a socket, and the event loop's callbacks."""

    def __init__(self, port: int, done: Callable[[], None], *, talk: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._done, self._talk = done, talk
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if self._socket.connect_ex(("127.0.0.1", port)):
            self._loop.add_writer(self._socket, self._connected)
        else:
            self._go()

    def _connected(self) -> None:
        self._loop.remove_writer(self._socket)
        self._go()

    def _go(self) -> None:
        if not self._talk:
            self._socket.close()
            self._done()
            return
        self._socket.send(REQUEST)
        self._loop.add_reader(self._socket, self._read)

    def _read(self) -> None:
        self._socket.recv(65536)
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._done()


async def floor(seconds: float, port: int, *, talk: bool) -> float:
    """Processor seconds of each bare exchange, PODS of them a second."""
    loop = asyncio.get_running_loop()
    count = int(PODS * seconds)
    left = asyncio.Semaphore(0)
    began, used = loop.time(), time.process_time()
    for number in range(count):
        loop.call_at(began + number / PODS, lambda: Bare(port, left.release, talk=talk))
    for _ in range(count):
        await left.acquire()
    return (time.process_time() - used) / count


async def show_sockets(seconds: float) -> None:
    """Both kinds of probes of a port."""
    async with serving() as port:
        for name, talk, probe in (
            ("httpGet", True, {"httpGet": {"path": "/healthz", "port": port}}),
            ("tcpSocket", False, {"tcpSocket": {"port": port}}),
        ):
            least = await floor(seconds, port, talk=talk)
            each = await node(seconds, **probe)
            print(
                f"{name}: {each * PODS:.1%} of a core for {PODS} each second, "
                f"{each * 1e6:.0f} us each: {each / least:.2f} of bare sockets ({least * 1e6:.0f} us)",
                flush=True,
            )


def used(run_dir: Path) -> float:
    """Processor seconds of this process, of the launcher of `run_dir`, and of instances that have ended."""
    total = time.process_time()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(run_dir).encode() in (process / "cmdline").read_bytes().split(b"\0"):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


async def show_execs() -> None:
    """Probes that run a command, one after the other."""
    with tempfile.TemporaryDirectory(prefix="vkubelet-bench-", dir=TMPFS) as temporary:
        bench = Bench(Path(temporary))
        await bench.provider.open(bench.ended.put_nowait)
        private = Path(temporary) / "private"
        private.mkdir()
        module = build_guest("actor")
        artifact = await bench.provider.prepare(
            module, f"sha256:{hashlib.sha256(module.read_bytes()).hexdigest()}"
        )
        of = pod(0)
        container = (of.spec.containers or [])[0]
        spec = dataclasses.replace(
            bench.spec(artifact),
            args=("actor", "sleep", "1000"),
            labels=records.labels(
                of, container, 0, 0, "registry.example/actor@sha256:0", Backoff(), Identity(0, 0)
            ),
        )
        state = await bench.provider.start(spec)
        commands = Commands(bench.provider, Toolbox(), private)
        kept = KeptCommands(bench.provider, commands)
        keeping = asyncio.create_task(kept.run())
        await asyncio.sleep(0)
        checks = Checks(commands, kept, "127.0.0.1")
        for name, command in COMMANDS.items():
            for period in (KEPT_PERIOD, KEPT_PERIOD + 1):
                probe = Probe(exec=ExecAction(list(command)), timeout_seconds=10, period_seconds=period)
                check = checks.prepare(of, container, running(of, state, private), probe)
                await show_exec(f"{name}, each {period} s", check, Path(temporary) / "run")
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await bench.provider.kill(state.id)
        await bench.ended.get()
        await bench.provider.close()


async def show_exec(name: str, check: Check, run_dir: Path) -> None:
    """What one costs, of EXECS."""
    for _ in range(10):
        outcome = await check()
        if outcome.result is not Result.SUCCESS:
            raise RuntimeError(f"{name}: {outcome}")
    before, began = used(run_dir), time.process_time()
    for _ in range(EXECS):
        await check()
    agent, total = time.process_time() - began, used(run_dir) - before
    print(
        f"exec of {name}: {total / EXECS * 1e3:.2f} ms of processor time each, "
        f"{agent / EXECS * 1e3:.2f} ms of it the agent's",
        flush=True,
    )


async def main(seconds: float) -> None:
    """All of it."""
    await show_sockets(seconds)
    await show_execs()


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0))
