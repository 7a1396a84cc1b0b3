"""Programs that are run for what they write, and end with whoever waits for that.

It exists so that nobody who is cancelled, or has waited long enough, is held up by a program: one that has
ended already, or whose children keep what it writes to open, among them; and that none is left behind. It
must not know what is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, negative for a signal, and all that it wrote."""

    code: int
    output: bytes
    errors: bytes


async def run(creating: Coroutine[Any, Any, Process], seconds: float, *, leads_group: bool = False) -> Ended:
    """What comes of a process, `asyncio.create_subprocess_exec(...)`, once it has ended.

    It is killed when that takes more than `seconds`, which raises TimeoutError, and when this is cancelled;
    one that `leads_group` with its group. Raises what `creating` raises.
    """
    creation = asyncio.ensure_future(creating)
    try:
        async with asyncio.timeout(seconds):
            process = await asyncio.shield(creation)
            output, errors = await process.communicate()
            return Ended(await process.wait(), output, errors)
    finally:
        await _end(creation, leads_group=leads_group)


async def _end(creation: asyncio.Future[Process], *, leads_group: bool) -> None:
    """Nothing of it stays. A creation takes no time; one that was cancelled would leave what it has made."""
    while not creation.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({creation})
    if creation.exception() is not None:
        return
    process = creation.result()
    if leads_group and process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    # It kills one that still runs. Others may hold the pipes' other ends: else `wait` waits for them.
    cast("Any", process)._transport.close()
    await process.wait()
