"""The C library's heaps, as it tells of them itself."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from vkubelet import footprint

LATE = {"requests", "urllib3", "oras", "grpc", "google.protobuf", "kubernetes_asyncio", "opentelemetry"}
"""What only some nodes need, or only for a moment: megabytes each."""


def test_an_agent_that_pulls_nothing_loads_nothing_for_it() -> None:
    code = f"import sys, vkubelet.agent, vkubelet.standalone; print({LATE!r} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


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


REMAINS = """
import asyncio, ctypes, pathlib, resource
from vkubelet import footprint
footprint.QUIET = 0.05
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = (ctypes.c_void_p,)
def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
taken = [libc.malloc(1000) for _ in range(60_000)]
for place in taken:
    ctypes.memset(place, 1, 1000)
for number, place in enumerate(taken):
    if number % 1_000:
        libc.free(place)
async def main():
    remains = footprint.Remains()
    full = resident()
    remains.later()
    remains.close()
    await asyncio.sleep(0.2)
    kept = resident()
    remains.later()
    remains.later()
    async with asyncio.timeout(10):
        while resident() > kept - 40_000_000:
            await asyncio.sleep(0.01)
    print(full - kept < 1_000_000)
asyncio.run(main())
"""


def test_what_a_burst_has_left_goes_back_once_it_is_over() -> None:
    done = subprocess.run([sys.executable, "-c", REMAINS], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
