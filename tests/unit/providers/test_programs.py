"""Programs that are waited for: whoever waits no more is let go of, however the program stands then."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from waiting import until

from providers.programs import output_of
from providers.wasmtime import launcher

LOOPS = pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
KEEPS_OUTPUT_OPEN = "#!/bin/sh\nsleep 30 &\necho $! > {0}/child\n"
"""It has ended, and what it wrote has not."""


def in_loop(factory: Callable[[], Any], work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


async def start(*command: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)


@LOOPS
def test_what_it_wrote(factory: Callable[[], Any]) -> None:
    async def work() -> None:
        process = await start("sh", "-c", "echo out; echo err >&2; exit 3")
        assert await output_of(process, 30) == (b"out\n", b"err\n")
        assert process.returncode == 3

    in_loop(factory, work())


@LOOPS
def test_one_that_takes_too_long(factory: Callable[[], Any]) -> None:
    async def work() -> None:
        process = await start("sleep", "1000")
        with pytest.raises(TimeoutError):
            await output_of(process, 0.1)
        assert process.returncode == -signal.SIGKILL

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
