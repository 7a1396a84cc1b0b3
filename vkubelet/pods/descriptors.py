"""Reading and writing descriptors that are not sockets of a protocol: pipes, terminals, packet sockets.

It exists because these carry an instance's standard files, and asyncio's own transports for them buffer:
here nothing is read before it is wanted, and a write returns when the kernel has taken all of it. It must
not know what is at the other end. All descriptors are non-blocking; their owner closes them, after the task
that waits for one has been ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import fcntl
import os
from collections.abc import Callable

CHUNK = 64 * 1024
ROOM = 1024 * 1024
"""Bytes that a pipe holds through which more passes than it holds by itself."""
_AT_ONCE = 2
"""Chunks that are read of one before others have their turn."""


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
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            await readable(descriptor)
        except OSError as error:
            if error.errno == errno.EIO:
                return b""
            raise
        else:
            if len(data) == CHUNK:
                _widen(descriptor)
            return data


async def read_all(descriptors: tuple[int, int], most: int) -> tuple[bytes, bytes]:
    """Read two at once, each to its end; what comes after the first `most` bytes of one is forgotten."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    kept = _Kept(descriptors, most)
    left = {descriptor for descriptor in descriptors if kept.take(descriptor) is not _State.ENDED}

    def on_readable(descriptor: int) -> None:
        try:
            if kept.take(descriptor) is not _State.ENDED:
                return
        except OSError as error:
            if not ended.done():
                ended.set_exception(error)
        loop.remove_reader(descriptor)
        left.discard(descriptor)
        if not left and not ended.done():
            ended.set_result(None)

    for descriptor in left:
        loop.add_reader(descriptor, on_readable, descriptor)
    try:
        if left:
            await ended
    finally:
        for descriptor in left:
            loop.remove_reader(descriptor)
    return kept.both()


async def read_answer(
    asked: int, descriptors: tuple[int, int], most: int, soon: float
) -> tuple[bytes, bytes, bytes]:
    """The next packet of a packet socket, empty at its end, and what was written to two others before it.

    Of those, what comes after the first `most` bytes of one is forgotten. What they hold that write much is
    taken from `soon` seconds on: most write little, and are looked at once.
    """
    loop = asyncio.get_running_loop()
    kept = _Kept(descriptors, most)

    def on_readable(descriptor: int) -> None:
        if kept.take(descriptor) is _State.ENDED:
            loop.remove_reader(descriptor)

    def listen() -> None:
        for descriptor in descriptors:
            loop.add_reader(descriptor, on_readable, descriptor)

    listening = loop.call_later(soon, listen)
    try:
        await readable(asked)
        answer = os.read(asked, CHUNK)
    except ConnectionResetError:
        answer = b""  # it ended with something to read
    finally:
        listening.cancel()
        for descriptor in descriptors:
            loop.remove_reader(descriptor)
    for descriptor in descriptors:
        while kept.take(descriptor) is _State.MORE:
            continue
    return answer, *kept.both()


class _State(enum.Enum):
    """What is known of a descriptor that was read: there may be more, there is none yet, or never will be."""

    MORE = "more"
    EMPTY = "empty"
    ENDED = "ended"


class _Kept:
    """The first bytes that two descriptors give."""

    def __init__(self, descriptors: tuple[int, int], most: int) -> None:
        self._most = most
        self._kept = dict.fromkeys(descriptors, b"")

    def take(self, descriptor: int) -> _State:
        """Take what is there, and leave others their turn where that does not end."""
        for _ in range(_AT_ONCE):
            try:
                data = os.read(descriptor, CHUNK)
            except BlockingIOError:
                return _State.EMPTY
            if not data:
                return _State.ENDED
            self._kept[descriptor] += data[: self._most - len(self._kept[descriptor])]
        return _State.MORE

    def both(self) -> tuple[bytes, bytes]:
        """Those of the one and of the other."""
        first, second = self._kept.values()
        return first, second


async def write(descriptor: int, data: bytes) -> None:
    """Write all of `data`. Raises BrokenPipeError when nobody reads it any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            _widen(descriptor)
            await writable(descriptor)


def _widen(descriptor: int) -> None:
    """Give a pipe that was found full more room: each side then works for longer before the other must.

    Where it has that already, is no pipe, or its user has too many such, nothing changes (pipe(7)).
    """
    with contextlib.suppress(OSError):
        if fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) < ROOM:
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, ROOM)
