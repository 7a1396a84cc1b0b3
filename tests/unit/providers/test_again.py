"""A guest that is run again and again in one process: each time as if it were the first."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from providers.base import Exit, ExitReason, Preopen, Streams
from tests.unit.providers.test_run import count

from .conftest import DEADLINE, Node, guest

RUNS = 20
TEXT = b"run 1 of it, file 5, input -1\n"
"""What it says each time: it knows of no other, and has as many files open as the first."""


@dataclasses.dataclass
class Kept:
    """Its process, our ends of its files, and the directory that it sees."""

    task: asyncio.Task[Exit]
    pid: int
    control: socket.socket
    stdout: int
    stderr: int
    data: Path

    async def run(self, what: str = "") -> tuple[bytes, bytes, bytes]:
        """Have it run once: the answer, and both outputs as far as they are there."""
        (self.data / "do").write_text(what)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.control, b"\0")
        async with asyncio.timeout(DEADLINE):
            answer = await loop.sock_recv(self.control, 8192)
        return answer, read(self.stdout), read(self.stderr)


def read(fd: int) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return os.read(fd, 65536)
    return b""


@contextlib.asynccontextmanager
async def kept(node: Node, module: Path, runs: int = RUNS, **fields: Any) -> AsyncIterator[Kept]:
    data = node.directory / "data"
    data.mkdir(exist_ok=True)
    fields = {"log_path": None, "preopens": (Preopen(data, "/data"),), "runs": runs} | fields
    spec = await node.spec(module, "it", **fields)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (out, out_write), (error, error_write) = os.pipe(), os.pipe()
    for fd in (ours.fileno(), out, error):
        os.set_blocking(fd, False)
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(
        node.provider.run(spec, Streams(theirs.fileno(), out_write, error_write), started.set_result)
    )
    try:
        await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
        theirs.close()
        for fd in (out_write, error_write):
            os.close(fd)
        yield Kept(task, started.result(), ours, out, error, data)
    finally:
        task.cancel()
        await asyncio.wait([task])
        ours.close()
        for fd in (out, error):
            os.close(fd)


async def test_each_time_is_the_first(node: Node) -> None:
    async with kept(node, guest("again")) as it:
        for number in range(RUNS):
            code = number % 5
            assert await it.run(str(code)) == (bytes([code]), TEXT, b"said\n")
        async with asyncio.timeout(DEADLINE):
            ended = await it.task
        assert (ended.code, ended.reason, ended.message) == (0, ExitReason.COMPLETED, "")
    assert list((node.run_dir / "containers").iterdir()) == []


async def test_it_ends_when_nobody_can_ask_any_more(node: Node) -> None:
    async with kept(node, guest("again")) as it:
        assert await it.run() == (b"\0", TEXT, b"said\n")
        it.control.shutdown(socket.SHUT_RDWR)
        async with asyncio.timeout(DEADLINE):
            assert (await it.task).code == 0


async def test_it_keeps_nothing_of_what_was_before(node: Node) -> None:
    async with kept(node, guest("again"), runs=500) as it:
        await it.run()
        files, memory = count(it.pid), anonymous(it.pid)
        for number in range(1, 400):
            await it.run()
            assert number % 50 or count(it.pid) < files, "each run closes what is its own"
        # A sanitizer keeps what was freed.
        assert "asan" in node.program.name or anonymous(it.pid) < memory + 1024 * 1024


def anonymous(pid: int) -> int:
    """Bytes of memory that no file backs, of a process."""
    (held,) = re.findall(r"RssAnon:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(held) * 1024


async def test_a_trap_is_the_end_of_one_run_only(node: Node) -> None:
    async with kept(node, guest("again")) as it:
        answer, output, errors = await it.run("trap")
        assert (answer, output) == (b"\x86", TEXT)
        assert errors.startswith(b"said\nerror while executing at wasm backtrace:\n")
        assert errors.endswith(b"wasm trap: wasm `unreachable` instruction executed\n")
        assert await it.run("7") == (b"\x07", TEXT, b"said\n")


async def test_the_limit_of_memory_holds_for_each(node: Node) -> None:
    async with kept(node, guest("again"), memory_limit=32 << 20) as it:
        for _ in range(3):
            answer, output, errors = await it.run("grow")
            assert (answer, output[:12]) == (b"\x89", b"run 1 of it,")
            assert b"out of memory: the guest asked for" in errors
            assert await it.run() == (b"\0", output, b"said\n")


async def test_one_that_is_killed_ends_with_its_process(node: Node) -> None:
    async with kept(node, guest("again")) as it:
        assert (await it.run())[0] == b"\0"
        (it.data / "do").write_text("hang")
        it.control.send(b"\0")
        await until(lambda: read(it.stdout))
        os.kill(it.pid, signal.SIGKILL)
        async with asyncio.timeout(DEADLINE):
            ended = await it.task
        assert (ended.code, ended.reason) == (137, ExitReason.KILLED)
        assert it.control.recv(100) == b""


async def test_what_cannot_be_run_says_why_each_time(node: Node) -> None:
    async with kept(node, guest("again"), memory_limit=65536) as it:
        for _ in range(2):
            answer, *written = await it.run()
            assert answer.startswith(b"\x80instantiating the module: out of memory: the guest asked for ")
            assert written == [b"", b""]


async def test_components_are_run_again_too(node: Node) -> None:
    async with kept(node, guest("component")) as it:
        first = await it.run()
        assert first[0] == b"\0"
        assert first[1]
        for _ in range(3):
            assert await it.run() == first


async def test_a_container_is_run_once(node: Node) -> None:
    spec = await node.spec(guest("hello"), runs=2)
    state = await node.provider.start(spec)
    ended = (await node.next_end()).exit
    assert ended is not None
    assert (ended.reason, ended.message) == (
        ExitReason.CANNOT_RUN,
        "reading the container's spec: it is not what was asked for",
    )
    await node.provider.remove(state.id)


async def test_cancelled_it_leaves_nothing(node: Node) -> None:
    async with kept(node, guest("again")) as it:
        await it.run()
        it.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await it.task
        with pytest.raises(ProcessLookupError):
            os.kill(it.pid, 0)
    assert list((node.run_dir / "containers").iterdir()) == []
