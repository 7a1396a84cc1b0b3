"""What containers write, on this process' own standard output and error.

It exists to keep the order in which a container wrote its two outputs, and to tell several containers apart
by a prefix to each line. It reads their logs, which have every whole line as soon as it is one. It must not
know pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from vkubelet.pods.descriptors import writable
from vkubelet.pods.directory import LogSource
from vkubelet.server.cri_log import parse_line
from vkubelet.server.log_options import LogOptions
from vkubelet.server.log_reader import LogReader
from vkubelet.server.log_stream import LogMissingError

STDOUT, STDERR = 1, 2
_PIECE = 4096


class AllBytes:
    """Implements Lines: the log as it is."""

    done = False

    def feed(self, data: bytes) -> bytes:
        """See Lines."""
        return data

    def end_of_file(self) -> bytes:
        """See Lines: a log's lines are written whole."""
        return b""


class Splitter:
    """Takes a log apart: which descriptor gets what. Each line of output begins with `prefix`."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._carry = b""
        self._begins = {STDOUT: True, STDERR: True}

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Descriptor and text of what `data` completes, in the order in which it was written."""
        *lines, self._carry = (self._carry + data).split(b"\n")
        target, pending = STDOUT, b""
        for raw in lines:
            line = parse_line(raw)
            if line is None:
                continue
            descriptor = STDERR if line.stream == b"stderr" else STDOUT
            if descriptor != target:
                if pending:
                    yield target, pending
                target, pending = descriptor, b""
            pending += self._shown(descriptor, line.content, partial=line.partial)
        if pending:
            yield target, pending

    def _shown(self, descriptor: int, content: bytes, *, partial: bool) -> bytes:
        begins, self._begins[descriptor] = self._begins[descriptor], not partial
        return (self._prefix if begins else b"") + content + (b"" if partial else b"\n")


class Output:
    """Writes what all containers write; a reader that takes nothing keeps them waiting, not this process."""

    def __init__(self, reader: LogReader, before: Callable[[], None]) -> None:
        """`before` is called before anything is written, to make room for it on a terminal."""
        self._reader = reader
        self._before = before
        self._turn = asyncio.Lock()

    async def follow(self, source: LogSource, prefix: str) -> None:
        """Write all that is in a container's log until its end. Raises BrokenPipeError: nobody reads."""
        splitter = Splitter(prefix.encode())

        async def write(data: bytes) -> None:
            for descriptor, text in splitter.feed(data):
                await self.write(descriptor, text)

        try:
            async with self._reader.open(source, LogOptions(follow=True), AllBytes()) as stream:
                await stream.copy(write)
        except LogMissingError:
            return  # it could not even be started, which its status says

    async def write(self, descriptor: int, text: bytes) -> None:
        """Write to one of this process' outputs, after what is being written. Raises BrokenPipeError."""
        async with self._turn:
            self._before()
            left = memoryview(text)
            while left:
                with contextlib.suppress(PermissionError):  # a file is always ready, and cannot be waited for
                    await writable(descriptor)
                # A pipe or a terminal that is ready takes so much without making anybody wait.
                left = left[_write(descriptor, left[:_PIECE]) :]


def _write(descriptor: int, piece: memoryview) -> int:
    try:
        return os.write(descriptor, piece)
    except OSError as error:
        if error.errno == errno.EIO:  # a terminal that is gone
            raise BrokenPipeError(errno.EPIPE, "the terminal is gone") from error
        raise
