"""An instance's standard files and its end, with a provider whose instances do as they are told."""

from __future__ import annotations

import asyncio
import os
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from fcntl import F_GETPIPE_SZ, fcntl, ioctl
from pathlib import Path
from typing import Any, cast

import pytest
from waiting import eventually, until

from providers.base import (
    Artifact,
    ContainerSpec,
    Exit,
    ExitReason,
    ModuleKind,
    Provider,
    ProviderError,
    Streams,
)
from vkubelet.pods.descriptors import CHUNK, ROOM
from vkubelet.pods.execution import Execution, execute
from vkubelet.pods.interaction import CommandError, Wanted

SPEC = ContainerSpec("0" * 64, {}, Artifact(Path("/x"), ModuleKind.MODULE), (), (), None)
ALL = Wanted(stdin=True, stdout=True, stderr=True, tty=False)
TTY = Wanted(stdin=True, stdout=True, stderr=False, tty=True)


def open_files() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


Guest = Callable[[Streams], Awaitable[int]]


def ended(code: int, reason: ExitReason = ExitReason.ERROR, message: str = "") -> Exit:
    return Exit(code, reason, message, 1, 2)


class Instances:
    """A provider that only runs; the guest works on copies of its streams, as a process does."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self.running = 0

    async def run(
        self, spec: ContainerSpec, streams: Streams, on_start: Callable[[int], None] | None = None
    ) -> Exit:
        copies = Streams(os.dup(streams.stdin), os.dup(streams.stdout), os.dup(streams.stderr))
        assert on_start is not None
        on_start(1)
        self.running += 1
        try:
            return ended(await self._guest(copies))
        finally:
            self.running -= 1
            for copy in (copies.stdin, copies.stdout, copies.stderr):
                os.close(copy)


@asynccontextmanager
async def running(
    guest: Guest, wanted: Wanted = ALL, ends: asyncio.Event | None = None
) -> AsyncIterator[Execution]:
    instances = Instances(guest)
    before = open_files()
    async with execute(cast("Provider", instances), SPEC, wanted, ends or asyncio.Event()) as execution:
        yield execution
    assert instances.running == 0
    assert open_files() <= before  # what others had open may have been closed meanwhile
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def in_thread(call: Callable[..., Any], *arguments: object) -> Any:
    return await asyncio.to_thread(call, *arguments)


async def test_input_reaches_it_and_both_outputs_come_back() -> None:
    async def guest(streams: Streams) -> int:
        data = await in_thread(os.read, streams.stdin, 100)
        os.write(streams.stdout, data.upper())
        os.write(streams.stderr, b"done")
        return 3

    async with running(guest) as execution:
        await execution.write_stdin(b"hello")
        assert await execution.read_stdout() == b"HELLO"
        assert await execution.read_stderr() == b"done"
        assert await execution.wait() == 3
        assert await execution.read_stdout() == b""
        assert await execution.read_stderr() == b""


async def test_more_than_pipes_hold_goes_through_in_order_while_both_sides_wait_for_each_other() -> None:
    data = os.urandom(4 * ROOM)

    async def guest(streams: Streams) -> int:
        def copy() -> None:
            while block := os.read(streams.stdin, 10_000):
                os.write(streams.stdout, block)

        await in_thread(copy)
        return 0

    async with running(guest) as execution:

        async def feed() -> None:
            await execution.write_stdin(data)
            await execution.close_stdin()
            await execution.close_stdin()

        feeding = asyncio.create_task(feed())
        received = bytearray()
        while block := await execution.read_stdout():
            received += block
        await feeding
        assert bytes(received) == data
        assert await execution.wait() == 0


def size(pipe: int) -> int:
    return fcntl(pipe, F_GETPIPE_SZ)


async def test_a_pipe_that_was_full_holds_more_and_others_what_they_do() -> None:
    async def guest(streams: Streams) -> int:
        await in_thread(lambda: os.write(streams.stdout, bytes(CHUNK)))
        await in_thread(lambda: os.write(streams.stderr, b"few"))
        await in_thread(lambda: eventually(lambda: size(streams.stdin) == ROOM, "more room for input"))
        assert [size(stream) for stream in (streams.stdout, streams.stderr)] == [ROOM, CHUNK]
        left = 2 * CHUNK
        while left > 0:
            left -= len(await in_thread(lambda: os.read(streams.stdin, CHUNK)))
        return 0

    async with running(guest) as execution:
        assert len(await execution.read_stdout()) == CHUNK
        assert await execution.read_stderr() == b"few"
        await execution.write_stdin(bytes(2 * CHUNK))
        assert await execution.wait() == 0


async def test_all_is_read_and_as_much_kept_as_is_asked_for() -> None:
    data = os.urandom(1 << 18)

    async def guest(streams: Streams) -> int:
        def write() -> None:
            for start in range(0, len(data), 30_000):
                os.write(streams.stdout, data[start : start + 30_000])
            os.write(streams.stderr, b"late")

        await in_thread(write)
        return 5

    async with running(guest) as execution:
        assert await execution.read_all(100_001) == (data[:100_001], b"late")
        assert await execution.wait() == 5
    async with running(guest) as execution:
        assert await execution.read_all(0) == (b"", b"")


async def test_reading_all_can_be_given_up() -> None:
    async def guest(streams: Streams) -> int:
        os.write(streams.stdout, b"first")
        await asyncio.Event().wait()
        return 0

    async with running(guest) as execution:
        reading = asyncio.create_task(execution.read_all(100))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        loop = asyncio.get_running_loop()
        assert not loop.remove_reader(execution._files.stdout)
        assert not loop.remove_reader(execution._files.stderr)


async def test_what_is_not_wanted_is_at_its_end() -> None:
    async def guest(streams: Streams) -> int:
        os.write(streams.stdout, b"nobody reads this")
        return len(await in_thread(os.read, streams.stdin, 10))

    async with running(guest, Wanted(stdin=False, stdout=False, stderr=True, tty=False)) as execution:
        assert await execution.wait() == 0
        assert await execution.read_stdout() == b""
        assert await execution.read_stderr() == b""
        with pytest.raises(BrokenPipeError):
            await execution.write_stdin(b"x")


async def test_input_that_nobody_reads_any_more_breaks() -> None:
    async def guest(streams: Streams) -> int:
        return 0

    async with running(guest) as execution:
        await execution.wait()
        with pytest.raises(BrokenPipeError):
            await execution.write_stdin(b"x")


async def test_leaving_ends_what_runs() -> None:
    async def guest(streams: Streams) -> int:
        await asyncio.Event().wait()
        return 0

    async with running(guest):
        pass


async def test_who_is_cancelled_while_an_instance_ends_leaves_nothing_open() -> None:
    ending, may_end = asyncio.Event(), asyncio.Event()

    async def guest(streams: Streams) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()
        return 0

    async def leave() -> None:
        async with execute(cast("Provider", instances), SPEC, ALL, asyncio.Event()):
            pass

    instances, before = Instances(guest), open_files()
    leaving = asyncio.create_task(leave())
    await ending.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    may_end.set()
    await until(lambda: instances.running == 0)
    assert open_files() <= before


async def test_the_containers_end_is_the_instances() -> None:
    ends = asyncio.Event()

    async def guest(streams: Streams) -> int:
        await asyncio.Event().wait()
        return 0

    async with running(guest, ends=ends) as execution:
        ends.set()
        assert await execution.wait() == 137
        assert await execution.read_stdout() == b""


async def test_a_terminal_has_a_size_and_an_end_of_input() -> None:
    async def guest(streams: Streams) -> int:
        def work() -> int:
            line = os.read(streams.stdin, 100)
            rows, columns, _, _ = struct.unpack("HHHH", ioctl(streams.stdout, termios.TIOCGWINSZ, bytes(8)))
            os.write(streams.stdout, b"%s %d %d\n" % (line.strip(), rows, columns))
            return len(os.read(streams.stdin, 100))

        return int(await in_thread(work))

    async with running(guest, TTY) as execution:
        execution.resize(132, 43)
        await execution.write_stdin(b"hi\n")
        seen = b""
        while b"132" not in seen:
            seen += await execution.read_stdout()
        assert seen == b"hi\r\nhi 43 132\r\n"
        await execution.close_stdin()
        assert await execution.wait() == 0
        assert await execution.read_stdout() == b""


@pytest.mark.parametrize("wanted", [ALL, TTY])
async def test_what_cannot_be_started_says_so_and_leaves_nothing(wanted: Wanted) -> None:
    class Refuses:
        async def run(self, *_: object) -> Exit:
            raise ProviderError("no launcher")

    before = open_files()
    with pytest.raises(CommandError, match="unable to start container process: no launcher"):
        async with execute(cast("Provider", Refuses()), SPEC, wanted, asyncio.Event()):
            raise AssertionError("it has not been started")
    assert open_files() <= before  # what others had open may have been closed meanwhile


async def test_an_instance_that_never_ran_is_a_command_that_failed() -> None:
    class CannotRun:
        async def run(self, _spec: object, _streams: object, on_start: Callable[[int], None]) -> Exit:
            on_start(1)
            await asyncio.sleep(0)
            return ended(128, ExitReason.CANNOT_RUN, "loading the compiled module: bad")

    with pytest.raises(CommandError, match="loading the compiled module: bad"):
        async with execute(cast("Provider", CannotRun()), SPEC, ALL, asyncio.Event()) as execution:
            await execution.wait()
