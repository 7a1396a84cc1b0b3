"""Work that is of no more use once something else has happened."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def until(over: Coroutine[Any, Any, None], work: Coroutine[Any, Any, None]) -> bool:
    """Do `work` unless `over` returns first; the other one is cancelled and waited for.

    Whether the work is done. Raises what it raises.
    """
    tasks = asyncio.create_task(work, name="stream work"), asyncio.create_task(over, name="stream end")
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if tasks[0].cancelled():
        return False
    tasks[0].result()
    return True
