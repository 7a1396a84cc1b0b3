"""Programs that are run for what they write, and end with whoever waits for that.

It exists so that nobody who is cancelled, or has waited long enough, is held up by a program: one that has
ended already, or whose children keep what it writes to open, among them. It must not know what is run.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast


async def output_of(process: asyncio.subprocess.Process, seconds: float) -> tuple[bytes, bytes]:
    """All that it writes to its standard output and error, once it has ended.

    It is killed when that takes more than `seconds`, which raises TimeoutError, and when this is cancelled.
    """
    try:
        async with asyncio.timeout(seconds):
            return await process.communicate()
    finally:
        # It kills one that still runs. Others may hold the pipes' other ends: else `wait` waits for them.
        cast("Any", process)._transport.close()
        await process.wait()
