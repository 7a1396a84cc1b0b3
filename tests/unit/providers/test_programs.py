"""Programs that are waited for: whoever waits no more is let go of, however the program stands then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from waiting import until

from oci import program
from providers import programs
from providers.wasmtime import launcher

LOOPS = pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
KEEPS_OUTPUT_OPEN = "#!/bin/sh\nsleep 30 &\necho $! > {0}/child\n"
"""It has ended, and what it wrote has not."""

NOTES = "echo $$ >> {0}/pids; {1}"
"""It notes that it runs, and goes on."""


def assert_none_left(directory: Path) -> None:
    """Of those that have noted that they run, nor of their groups: none but what nobody has reaped yet."""
    noted = set(map(int, (directory / "pids").read_text().split()))
    assert noted
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, group, *_ = stat.read_text().rpartition(") ")[2].split()
            assert noted.isdisjoint((int(stat.parent.name), int(group))) or state == "Z"


def in_loop(factory: Callable[[], Any], work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


def creation(*command: str, **options: Any) -> Coroutine[Any, Any, asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    return asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, **options)


@LOOPS
def test_what_it_wrote(factory: Callable[[], Any]) -> None:
    async def work() -> None:
        ended = await programs.run(creation("sh", "-c", "echo out; echo err >&2; exit 3"), 30)
        assert ended == programs.Ended(3, b"out\n", b"err\n")

    in_loop(factory, work())


@LOOPS
def test_one_that_is_not_there(factory: Callable[[], Any]) -> None:
    async def work() -> None:
        with pytest.raises(FileNotFoundError):
            await programs.run(creation("/nowhere/at-all"), 30)

    in_loop(factory, work())


@LOOPS
def test_one_that_takes_too_long(tmp_path: Path, factory: Callable[[], Any]) -> None:
    async def work() -> None:
        with pytest.raises(TimeoutError):
            await programs.run(creation("sh", "-c", NOTES.format(tmp_path, "exec sleep 1000")), 0.5)
        assert_none_left(tmp_path)

    in_loop(factory, work())


def run(command: list[str]) -> Coroutine[Any, Any, object]:
    return programs.run(creation(*command, start_new_session=True), 30, leads_group=True)


def ask(command: list[str]) -> Coroutine[Any, Any, object]:
    return program.ask(command, b"?", environment=os.environ, deadline=30, limit=100)


@LOOPS
@pytest.mark.parametrize("begin", [run, ask])
def test_one_that_is_given_up_while_it_is_created_is_not_left_behind(
    tmp_path: Path, factory: Callable[[], Any], begin: Callable[[list[str]], Coroutine[Any, Any, object]]
) -> None:
    async def work() -> None:
        for turns in range(1, 10):
            asked = asyncio.create_task(begin(["sh", "-c", NOTES.format(tmp_path, "sleep 1000; exit")]))
            for _ in range(turns):
                await asyncio.sleep(0)
            time.sleep(0.05)  # noqa: ASYNC251  the program goes on, and the loop does not
            asked.cancel()
            done, _ = await asyncio.wait([asked], timeout=10)
            assert done
            assert asked.cancelled()
        await asyncio.sleep(0.2)
        assert_none_left(tmp_path)

    in_loop(factory, work())


@LOOPS
def test_who_waits_no_more_is_let_go_of_also_when_only_its_child_goes_on(
    tmp_path: Path, factory: Callable[[], Any]
) -> None:
    program, child = tmp_path / "program", tmp_path / "child"
    program.write_text(KEEPS_OUTPUT_OPEN.format(tmp_path))
    program.chmod(0o755)

    async def work() -> None:
        asked = asyncio.create_task(launcher.sandbox(program))
        await until(lambda: child.exists() and child.read_text().endswith("\n"))
        await asyncio.sleep(0.1)  # its end is known by then
        asked.cancel()
        done, _ = await asyncio.wait([asked], timeout=10)
        assert done
        assert asked.cancelled()
        os.kill(int(child.read_text()), signal.SIGKILL)

    in_loop(factory, work())
