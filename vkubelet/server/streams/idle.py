"""When a connection on which nothing moves is given up (the kubelet's streamingConnectionIdleTimeout).

It exists so that a busy connection pays one assignment for each read and write, and no timer. It must not
know what a connection is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class IdleTimer:
    """Calls back once nothing has been sent or received for a while."""

    def __init__(self, timeout: float, on_idle: Callable[[], None]) -> None:
        """`on_idle` is called in the loop, `timeout` seconds after the last `touch`."""
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._on_idle = on_idle
        self._last = self._loop.time()
        self._handle = self._loop.call_later(timeout, self._check)

    def touch(self) -> None:
        """Something has been sent or received."""
        self._last = self._loop.time()

    def stop(self) -> None:
        """Do not call back."""
        self._handle.cancel()

    def _check(self) -> None:
        due = self._last + self._timeout
        if due <= self._loop.time():
            self._on_idle()
        else:
            self._handle = self._loop.call_at(due, self._check)
