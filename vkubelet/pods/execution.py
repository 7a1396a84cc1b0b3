"""An instance that runs for a client: its standard files, its end, and its death when the client goes.

It exists to own the descriptors between a client and an instance, so that none of them outlives the other.
It must not know where the client is or what the instance was asked to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from providers.base import ContainerSpec, Exit, ExitReason, Provider, ProviderError, Streams
from vkubelet.pods import descriptors
from vkubelet.pods.command import FAILED
from vkubelet.pods.interaction import CommandError, Wanted

KILLED = 137
_SOON = 0.03
"""Seconds in which most commands end that nobody watches."""
_END_OF_INPUT = b"\x04"
"""What a terminal in canonical mode takes for the end of its input (VEOF, termios(3))."""


@dataclass(slots=True)
class _Files:
    """The two sides of an instance's standard files; -1 where there is none on the client's side."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    inner: list[int] = field(default_factory=list)

    def streams(self) -> Streams:
        """The instance's side."""
        return Streams(*self.inner)

    def close_inner(self) -> None:
        """The instance has its own copies."""
        for descriptor in set(self.inner):
            os.close(descriptor)
        self.inner.clear()

    def close(self) -> None:
        """Close all that is open."""
        self.close_inner()
        for descriptor in {self.stdin, self.stdout, self.stderr} - {-1}:
            os.close(descriptor)
        self.stdin = self.stdout = self.stderr = -1


def _pipes(wanted: Wanted, *, asked: bool) -> _Files:
    """`asked`: the instance is one that is run each time that it is asked for, by its standard input."""
    files = _Files()
    try:
        if asked:
            ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            inner, files.stdin = (end.detach() for end in ends)
        elif wanted.stdin:
            inner, files.stdin = os.pipe()
        else:
            inner = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        files.inner.append(inner)
        for name in ("stdout", "stderr"):
            if getattr(wanted, name):
                outer, inner = os.pipe()
                setattr(files, name, outer)
            else:
                inner = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            files.inner.append(inner)
        for descriptor in {files.stdin, files.stdout, files.stderr} - {-1}:
            os.set_blocking(descriptor, False)
    except BaseException:
        files.close()
        raise
    return files


def _terminal() -> _Files:
    outer, inner = os.openpty()
    os.set_blocking(outer, False)
    return _Files(outer, outer, -1, [inner, inner, inner])


class Execution:
    """Implements vkubelet.pods.interaction.Interaction over pipes, or a terminal."""

    def __init__(self, files: _Files, wanted: Wanted, running: asyncio.Task[Exit]) -> None:
        """`running` is the instance's life; both are the caller's to end."""
        self._files = files
        self._wanted = wanted
        self._running = running

    async def read_stdout(self) -> bytes:
        """See Interaction."""
        wanted = self._wanted.stdout and self._files.stdout >= 0
        return await descriptors.read(self._files.stdout) if wanted else b""

    async def read_stderr(self) -> bytes:
        """See Interaction."""
        return await descriptors.read(self._files.stderr) if self._files.stderr >= 0 else b""

    async def read_all(self, most: int) -> tuple[bytes, bytes]:
        """Both outputs to their ends, and of each no more than its first `most` bytes.

        All is read: nobody who writes must wait for long. It is for an instance without a terminal.
        """
        # What ends soon has left behind all that it had to say: it costs less to look then than to be told.
        await asyncio.wait([self._running], timeout=_SOON)
        return await descriptors.read_all((self._files.stdout, self._files.stderr), most)

    async def ask(self, most: int) -> tuple[bytes, bytes, bytes]:
        """Have an instance with `runs` run once, and return what it answers (see ContainerSpec).

        With it come the first `most` bytes of each output of this run. An empty answer is that the instance
        has ended. Raises BrokenPipeError if it had before.
        """
        outputs = self._files.stdout, self._files.stderr
        os.write(self._files.stdin, b"\0")
        return await descriptors.read_answer(self._files.stdin, outputs, most, _SOON)

    async def write_stdin(self, data: bytes) -> None:
        """See Interaction."""
        if self._files.stdin < 0 or not self._wanted.stdin:
            raise BrokenPipeError
        await descriptors.write(self._files.stdin, data)

    async def close_stdin(self) -> None:
        """See Interaction. A terminal stays open: its reader is told in the terminal's own way."""
        if not self._wanted.stdin or self._files.stdin < 0:
            return
        if self._wanted.tty:
            await descriptors.write(self._files.stdin, _END_OF_INPUT)
            return
        os.close(self._files.stdin)
        self._files.stdin = -1

    def resize(self, width: int, height: int) -> None:
        """See Interaction."""
        if self._wanted.tty and self._files.stdout >= 0:
            size = struct.pack("HHHH", height & 0xFFFF, width & 0xFFFF, 0, 0)
            fcntl.ioctl(self._files.stdout, termios.TIOCSWINSZ, size)

    @property
    def ended(self) -> bool:
        """Whether the instance has ended, or was never there."""
        return self._running.done()

    async def wait_for(self, other: asyncio.Future[None], timeout: float) -> None:
        """Wait for its end or for another thing, at most `timeout` seconds."""
        await asyncio.wait((self._running, other), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    async def wait(self) -> int:
        """See Interaction. Raises CommandError for an instance that never reached its first instruction."""
        await asyncio.wait([self._running])
        return KILLED if self._running.cancelled() else self._running.result().code


@contextlib.asynccontextmanager
async def execute(
    provider: Provider, spec: ContainerSpec, wanted: Wanted, container_ends: asyncio.Event
) -> AsyncIterator[Execution]:
    """Run an instance for as long as the block does, its container runs and it does not end by itself.

    Raises CommandError when it cannot be started.
    """
    try:
        files = _terminal() if wanted.tty else _pipes(wanted, asked=spec.runs is not None)
    except OSError as error:
        raise CommandError(f"{FAILED}: {error}") from error
    started = asyncio.get_running_loop().create_future()

    def on_start(_pid: int) -> None:
        files.close_inner()
        if not started.done():
            started.set_result(None)

    running = asyncio.create_task(
        _run(provider, spec, files.streams(), on_start), name=f"exec {spec.id[:12]}"
    )
    watching = asyncio.create_task(_end_with(container_ends, running), name=f"exec watch {spec.id[:12]}")
    try:
        await asyncio.wait([started, running], return_when=asyncio.FIRST_COMPLETED)
        files.close_inner()
        if running.done() and not running.cancelled():
            running.result()
        yield Execution(files, wanted, running)
    finally:
        watching.cancel()
        running.cancel()
        started.cancel()
        try:
            await asyncio.wait([running, watching])
        finally:  # who leaves may be cancelled meanwhile: a second time, or as late as this
            files.close()


async def _end_with(container: asyncio.Event, running: asyncio.Task[Exit]) -> None:
    await container.wait()
    running.cancel()


async def _run(
    provider: Provider, spec: ContainerSpec, streams: Streams, on_start: Callable[[int], None]
) -> Exit:
    try:
        end = await provider.run(spec, streams, on_start)
    except ProviderError as error:
        raise CommandError(f"{FAILED}: {error}") from error
    if end.reason is ExitReason.CANNOT_RUN:
        raise CommandError(f"{FAILED}: {end.message}")
    return end
