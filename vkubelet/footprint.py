"""What keeps the agent's memory small, where it is the C library and not our code that holds it.

It exists because a node is judged by what it takes from its pods. It must not know what the process does;
where the C library is another than glibc, nothing is changed.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc

_libc = ctypes.CDLL(None)
_M_ARENA_MAX = -8  # from malloc.h
QUIET = 10.0
"""Seconds without an end after which a burst is over."""


def one_arena() -> None:
    """Have all threads share one heap; to be called before there are threads.

    glibc gives each thread a heap of its own, and keeps it. The agent's threads wait for disks and
    registries, never for malloc.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def settle() -> None:
    """After the start: what exists now stays, so the collector need not look at it again, and what the
    start has left over goes back to the system.
    """
    gc.collect()
    gc.freeze()
    _trim()


class Remains:
    """Gives back to the system what came together while something came and went, once that is over.

    The C library gives back by itself only what is free at the end of its heap, and there is always
    something at the end. Use from one event loop.
    """

    def __init__(self) -> None:
        self._alarm: asyncio.TimerHandle | None = None

    def later(self) -> None:
        """Something has ended; when nothing else has for QUIET seconds, its memory goes back."""
        self.close()
        self._alarm = asyncio.get_running_loop().call_later(QUIET, _trim)

    def close(self) -> None:
        """Wait for no quiet any more."""
        if self._alarm is not None:
            self._alarm.cancel()


def _trim() -> None:
    """It takes a millisecond for tens of megabytes, and no thread could allocate meanwhile."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)
