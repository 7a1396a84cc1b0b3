"""The C library's heaps, as it tells of them itself."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from vkubelet import footprint

HEAPS = """
import ctypes, threading
from vkubelet import footprint
if {limited}:
    footprint.one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
together = threading.Barrier(4)
def take():
    together.wait()
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
output = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, output)
libc.fflush(output)
"""


@pytest.mark.parametrize("limited", [True, False])
def test_threads_share_one_heap(limited: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HEAPS.format(limited=limited)], capture_output=True, text=True, check=True
    )
    heaps = done.stdout.count("<heap nr=")
    assert heaps == 1 if limited else heaps > 1


def test_what_the_start_left_is_looked_at_no_more() -> None:
    try:
        footprint.settle()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
