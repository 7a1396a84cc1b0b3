"""What keeps the agent's memory small, where it is the C library and not our code that holds it.

It exists because a node is judged by what it takes from its pods. It must not know what the process does;
where the C library is another than glibc, nothing is changed.
"""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX = -8  # from malloc.h


def one_arena() -> None:
    """Have all threads share one heap; to be called before there are threads.

    glibc gives each thread a heap of its own, and keeps it. The agent's threads wait for disks and
    registries, never for malloc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def settle() -> None:
    """After the start: what exists now stays, so the collector need not look at it again, and what the
    start has left over goes back to the system.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
