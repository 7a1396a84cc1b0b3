"""An event for one waiter.

It exists because a node has two for each of its pods, and asyncio's own carries a queue of waiters that alone
takes as much memory as all else a worker keeps of a container. It must not know what is signalled.
"""

from __future__ import annotations

import asyncio


class Signal:
    """As asyncio.Event, for one task at a time that waits. Use from one event loop."""

    __slots__ = ("_set", "_waiter")

    def __init__(self) -> None:
        self._set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Let go whoever waits, and whoever comes before the next `clear`."""
        self._set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """From now on `wait` waits for the next `set`."""
        self._set = False

    async def wait(self) -> None:
        """Return once it is set. Raises RuntimeError when another task waits already."""
        if self._set:
            return
        if self._waiter is not None:
            raise RuntimeError("another task waits for this signal")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
