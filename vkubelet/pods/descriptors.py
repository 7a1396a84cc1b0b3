"""Reading and writing descriptors that are not sockets of a protocol: pipes, terminals, packet sockets.

It exists because these carry an instance's standard files, and asyncio's own transports for them buffer:
here nothing is read before it is wanted, and a write returns when the kernel has taken all of it. It must
not know what is at the other end. All descriptors are non-blocking; their owner closes them, after the task
that waits for one has been ended.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable

CHUNK = 64 * 1024


async def readable(descriptor: int) -> None:
    """Wait until there is something to read, or the end."""
    loop = asyncio.get_running_loop()
    await _ready(loop.add_reader, loop.remove_reader, descriptor)


async def writable(descriptor: int) -> None:
    """Wait until there is room, or nobody who reads."""
    loop = asyncio.get_running_loop()
    await _ready(loop.add_writer, loop.remove_writer, descriptor)


async def _ready(add: Callable[..., None], remove: Callable[[int], bool], descriptor: int) -> None:
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(descriptor, _settle, waiting)
    try:
        await waiting
    finally:
        remove(descriptor)


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def read(descriptor: int) -> bytes:
    """The next bytes, at most CHUNK; empty at the end, which for a terminal is that nobody has it open."""
    while True:
        try:
            return os.read(descriptor, CHUNK)
        except BlockingIOError:
            await readable(descriptor)
        except OSError as error:
            if error.errno == errno.EIO:
                return b""
            raise


async def write(descriptor: int, data: bytes) -> None:
    """Write all of `data`. Raises BrokenPipeError when nobody reads it any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            await writable(descriptor)
