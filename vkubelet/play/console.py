"""The terminal, or whatever else standard input is, joined to one container.

It exists so that a pod which wants a terminal has the caller's: raw, of its size, and given back as it was.
It must not know pods, nor what runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

from vkubelet.pods.attachment import Attachment

_CHUNK = 32 * 1024
STDIN, STDOUT = 0, 1

Write = Callable[[int, bytes], Awaitable[None]]


@contextlib.contextmanager
def raw_terminal() -> Iterator[bool]:
    """Pass keys and control characters on as they come, while the block lasts; whether it is a terminal."""
    if not os.isatty(STDIN):
        yield False
        return
    before = termios.tcgetattr(STDIN)
    tty.setraw(STDIN, termios.TCSANOW)
    try:
        yield True
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


async def join(attachment: Attachment, write: Write, *, takes_input: bool, terminal: bool) -> None:
    """Be a container's terminal, or its input, until its end. Raises BrokenPipeError: nobody reads us.

    With `terminal` what it writes is written here too; without, that is read from its log.
    """
    with contextlib.ExitStack() as ends:
        sending: asyncio.Task[None] | None = None
        if terminal and ends.enter_context(raw_terminal()):
            ends.enter_context(_size_followed(attachment))
        if takes_input:
            sending = asyncio.create_task(_send(attachment), name="standard input")
        try:
            while output := await attachment.read_stdout():
                await write(STDOUT, output)
            await attachment.wait()
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.wait([sending])
    if sending is not None and not sending.cancelled():
        sending.result()


async def _send(attachment: Attachment) -> None:
    """Give our input on until its end, or until nobody reads it any more."""
    with contextlib.suppress(BrokenPipeError):
        async with contextlib.aclosing(_input()) as chunks:
            async for chunk in chunks:
                await attachment.write_stdin(chunk)
        await attachment.close_stdin()


async def _input() -> AsyncGenerator[bytes, None]:
    """What standard input gives: a terminal or pipe as it comes, a file at once."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(STDIN, ready.set)
    except (PermissionError, OSError):  # a file is always ready, and cannot be waited for
        while chunk := await asyncio.to_thread(os.read, STDIN, _CHUNK):
            yield chunk
        return
    try:
        while True:
            await ready.wait()
            ready.clear()
            chunk = _read_now()
            if not chunk:
                return
            yield chunk
    finally:
        loop.remove_reader(STDIN)


def _read_now() -> bytes:
    """What is there to read; nothing at the end, which a terminal that is gone has reached too."""
    try:
        return os.read(STDIN, _CHUNK)
    except OSError:
        return b""


@contextlib.contextmanager
def _size_followed(attachment: Attachment) -> Iterator[None]:
    """Tell the container of our terminal's size, now and whenever it changes."""
    loop = asyncio.get_running_loop()

    def tell() -> None:
        size = os.get_terminal_size(STDIN)
        attachment.resize(size.columns, size.lines)

    tell()
    loop.add_signal_handler(signal.SIGWINCH, tell)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


def is_interactive() -> bool:
    """Whether somebody looks at our standard error."""
    return sys.stderr.isatty()
