"""The requests that are streams: how long they may take, and their end when the server closes.

It exists because such a request ends only when its client or its server wants it. It must not know what the
streams carry.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from vkubelet.footprint import Remains

IDLE_TIMEOUT = 4 * 3600.0
"""Seconds after which a connection on which nothing moves is ended (streamingConnectionIdleTimeout)."""
CREATION_TIMEOUT = 30.0
"""Seconds that a client has to open its streams (remotecommand.DefaultStreamCreationTimeout)."""


class StreamSessions:
    """The tasks of these requests."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()
        self._remains = Remains()

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """The current task's request is such a one."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  for the type checker
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)
            self._remains.later()

    def end(self) -> None:
        """End them all."""
        for task in self._tasks:
            task.cancel()
        self._remains.close()
