"""Commands whose process is kept: who serves whom, how long, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from waiting import until

from providers.base import (
    Artifact,
    ContainerSpec,
    ContainerState,
    Exit,
    ExitReason,
    ModuleKind,
    ProviderError,
    Streams,
)
from vkubelet.api.containers import Container
from vkubelet.pods.commands import OUTPUT_MAX, Finished
from vkubelet.pods.interaction import CommandError
from vkubelet.pods.kept import RUNS, KeptCommand, KeptCommands
from vkubelet.pods.running import RunningContainer

SPEC = ContainerSpec("0" * 64, {}, Artifact(Path("/x"), ModuleKind.MODULE), (), (), None)
KILLED = Exit(137, ExitReason.KILLED, "killed", 1, 2, 9)
ENDED = Exit(0, ExitReason.COMPLETED, "", 1, 2)

Guest = Callable[[int, Streams], Awaitable[bytes]]
"""Gets how often its process was asked before, and its files; gives the answer."""


class Node:
    """A provider whose processes keep to what ContainerSpec says of `runs`, over real sockets and pipes."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.refused: Exception | None = None
        self.started: list[ContainerSpec] = []
        self.running: dict[int, asyncio.Task[Any]] = {}
        self.end = KILLED
        self.spec = SPEC
        self.container = RunningContainer(
            Container(name="c"), ContainerState("id", {}, Path("/"), 1, 0), 0, asyncio.Event(), Path
        )

    async def command_spec(self, container: RunningContainer, words: tuple[str, ...]) -> ContainerSpec:
        assert (container, words) == (self.container, ("a", "b"))
        return dataclasses.replace(self.spec, id=os.urandom(32).hex())

    async def run(self, spec: ContainerSpec, streams: Streams, on_start: Callable[[int], None]) -> Exit:
        if self.refused is not None:
            raise self.refused
        number = len(self.started)
        self.started.append(spec)
        control = socket.socket(fileno=os.dup(streams.stdin))
        copies = Streams(control.fileno(), os.dup(streams.stdout), os.dup(streams.stderr))
        control.setblocking(False)
        on_start(1)
        task = self.running[number] = asyncio.ensure_future(self._serve(spec, control, copies))
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            if (current := asyncio.current_task()) is not None and current.cancelling():
                raise
            return self.end
        finally:
            del self.running[number]
            control.close()
            for copy in (copies.stdout, copies.stderr):
                os.close(copy)

    async def _serve(self, spec: ContainerSpec, control: socket.socket, streams: Streams) -> Exit:
        loop = asyncio.get_running_loop()
        for run in range(spec.runs or 0):
            if not await loop.sock_recv(control, 1):
                break
            await loop.sock_sendall(control, await self.guest(run, streams))
        return ENDED


async def counting(run: int, streams: Streams) -> bytes:
    os.write(streams.stdout, f"out {run}".encode())
    os.write(streams.stderr, b"err")
    return bytes([run % 256])


@contextlib.asynccontextmanager
async def kept(guest: Guest = counting, idle: float = 60) -> AsyncIterator[tuple[Node, KeptCommand]]:
    node = Node(guest)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    commands: Any = type("", (), {"spec": staticmethod(node.command_spec)})
    all_kept = KeptCommands(cast("Any", node), commands)
    keeping = asyncio.create_task(all_kept.run())
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        yield node, all_kept.command(node.container, ("a", "b"), idle)
    assert not keeping.done(), "one command's trouble is none of the others'"
    keeping.cancel()
    await asyncio.wait([keeping])
    assert node.running == {}
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_one_process_serves_many_times_and_then_another() -> None:
    async with kept() as (node, command):
        for run in [*range(RUNS), *range(3)]:
            assert await command.run(5) == Finished(run, f"out {run}".encode(), b"err")
        assert [spec.runs for spec in node.started] == [RUNS, RUNS]
        await until(lambda: list(node.running) == [1])


async def test_it_goes_when_nobody_asks() -> None:
    async with kept(idle=0.1) as (node, command):
        await command.run(5)
        await until(lambda: not node.running)
        assert (await command.run(5)).code == 0
        assert len(node.started) == 2


async def test_it_does_not_go_while_it_runs() -> None:
    async def slow(run: int, streams: Streams) -> bytes:
        await asyncio.sleep(0.5)
        return b"\0"

    async with kept(slow, idle=0.1) as (_, command):
        assert (await command.run(5)).code == 0


async def test_what_has_changed_is_run_by_another() -> None:
    async with kept() as (node, command):
        await command.run(5)
        assert (await command.run(5)).code == 1
        node.spec = dataclasses.replace(SPEC, memory_limit=1 << 20)
        assert (await command.run(5)).code == 0
        await until(lambda: list(node.running) == [1])
        assert node.started[1].memory_limit == 1 << 20


async def test_what_takes_too_long_has_no_process_any_more() -> None:
    async def hanging(run: int, streams: Streams) -> bytes:
        if run == 1:
            await asyncio.Event().wait()
        return bytes([run])

    async with kept(hanging) as (node, command):
        await command.run(5)
        with pytest.raises(TimeoutError):
            await command.run(0.1)
        await until(lambda: not node.running)
        assert (await command.run(5)).code == 0


async def test_it_ends_with_its_container() -> None:
    async with kept() as (node, command):
        await command.run(5)
        node.container.end.set()
        await until(lambda: not node.running)


async def test_one_that_ended_while_nobody_asked_is_no_failure() -> None:
    async with kept() as (node, command):
        await command.run(5)
        node.running[0].cancel()
        await asyncio.sleep(0.05)
        assert (await command.run(5)).code == 0
        # Nobody was told yet: asking fails.
        control = command._process.ready.result()._files.stdin  # type: ignore[union-attr]
        with socket.socket(fileno=os.dup(control)) as ours:
            ours.shutdown(socket.SHUT_RDWR)
            assert (await command.run(5)).code == 0
        assert len(node.started) == 3


async def test_one_that_is_killed_while_it_runs_is_one() -> None:
    async def dying(run: int, streams: Streams) -> bytes:
        os.write(streams.stderr, b"last words")
        raise asyncio.CancelledError

    async with kept(dying) as (node, command):
        assert await command.run(5) == Finished(137, b"", b"last words")
        node.end = dataclasses.replace(KILLED, reason=ExitReason.CANNOT_RUN, message="no room")
        with pytest.raises(CommandError, match="no room"):
            await command.run(5)
        node.end = ENDED
        with pytest.raises(CommandError, match="its process has ended without an answer"):
            await command.run(5)


async def test_what_cannot_be_run_says_why() -> None:
    async def unable(run: int, streams: Streams) -> bytes:
        return b"\x80instantiating the module: no memory"

    async with kept(unable) as (node, command):
        for _ in range(2):
            with pytest.raises(
                CommandError, match="unable to start container process: instantiating the mod"
            ):
                await command.run(5)
        assert len(node.started) == 1


@pytest.mark.parametrize("error", [ProviderError("no process"), OSError(24, "Too many open files")])
async def test_one_that_cannot_be_started_says_why(error: Exception) -> None:
    async with kept() as (node, command):
        node.refused = error
        expected = CommandError if isinstance(error, ProviderError) else OSError
        for _ in range(2):
            with pytest.raises(expected, match=str(error.args[-1])):
                await command.run(5)
        node.refused = None
        assert (await command.run(5)).code == 0


async def test_much_output_hinders_nobody_and_is_of_its_run_alone() -> None:
    async def writing(run: int, streams: Streams) -> bytes:
        data = bytes([97 + run]) * 1_000_000
        await asyncio.gather(
            asyncio.to_thread(os.write, streams.stdout, data),
            asyncio.to_thread(os.write, streams.stderr, data),
        )
        return b"\0"

    async with kept(writing) as (_, command):
        for letter in (b"a", b"b"):
            assert await command.run(10) == Finished(0, letter * OUTPUT_MAX, letter * OUTPUT_MAX)


async def test_without_an_agent_there_is_none() -> None:
    async with kept() as (node, command):
        await command.run(5)
    with pytest.raises(CommandError, match="the node agent ends"):
        await command.run(5)
    assert len(node.started) == 1
