"""Waiting for what announces itself to nobody: a condition looked at until it holds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable


def eventually(condition: Callable[[], object], what: str | Callable[[], str], timeout: float = 30.0) -> None:
    """Return as soon as `condition` holds; fail when it does not within `timeout` seconds.

    `what` is what was waited for, or tells then what it is.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout} s: {what if isinstance(what, str) else what()}")
        pause.wait(0.02)


async def until(condition: Callable[[], object]) -> None:
    """The same, while other tasks go on."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  what is waited for is a file or a server's memory
            await asyncio.sleep(0.01)
