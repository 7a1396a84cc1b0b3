"""A loop beside a test, in a thread of its own, for what the test and its subprocesses ask."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_TIMEOUT = 20


class Loop:
    """See `looping`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What it returns, or raises, in that loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_TIMEOUT)


@contextlib.contextmanager
def looping() -> Iterator[Loop]:
    """One that ends with the block, and cancels whatever still runs in it."""
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(ended.wait())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield Loop(loop)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(_TIMEOUT)
        assert not thread.is_alive()
