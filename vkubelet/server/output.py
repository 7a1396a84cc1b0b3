"""Joining a container whose output goes to its log alone: attach by following that log from its end.

It exists because a container without a standard input or a terminal has nobody beside it who could pass its
output on, and needs none: its log has every line as soon as it is whole. It must not know HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from vkubelet.pods.directory import LogSource
from vkubelet.pods.interaction import CommandError, Wanted
from vkubelet.server.log_options import STREAMS, LogOptions
from vkubelet.server.log_reader import LogReader
from vkubelet.server.log_stream import LogMissingError, LogStream

_AHEAD = 1
"""Blocks read before the client has taken them."""


class FollowedOutput:
    """Implements vkubelet.pods.interaction.Interaction over a log."""

    def __init__(self) -> None:
        """Outputs that are not followed are at their end."""
        self._outputs: dict[str, asyncio.Queue[bytes]] = {}
        self._over: list[asyncio.Task[None]] = []

    def follow(self, name: str, stream: LogStream) -> None:
        """Pass on what `stream` gives as the output of that name, of STREAMS."""
        output = self._outputs[name] = asyncio.Queue(_AHEAD)
        self._over.append(asyncio.create_task(_pump(stream, output), name=f"attach {name}"))

    async def end(self) -> None:
        """Follow no more."""
        for task in self._over:
            task.cancel()
        if self._over:
            await asyncio.wait(self._over)

    async def read_stdout(self) -> bytes:
        """See Interaction."""
        return await self._read("Stdout")

    async def read_stderr(self) -> bytes:
        """See Interaction."""
        return await self._read("Stderr")

    async def _read(self, name: str) -> bytes:
        return await self._outputs[name].get() if name in self._outputs else b""

    async def write_stdin(self, data: bytes) -> None:
        """See Interaction: there is nobody who reads."""
        raise BrokenPipeError(f"{len(data)} bytes for a container without a standard input")

    async def close_stdin(self) -> None:
        """See Interaction."""

    def resize(self, width: int, height: int) -> None:
        """See Interaction."""

    async def wait(self) -> int:
        """See Interaction: the log is at its end when the container is. Raises OSError: it cannot be read."""
        if self._over:
            await asyncio.wait(self._over)
        for task in self._over:
            task.result()
        return 0


@contextlib.asynccontextmanager
async def follow_output(
    source: LogSource, reader: LogReader, wanted: Wanted
) -> AsyncIterator[FollowedOutput]:
    """What a running container writes from now on. Raises CommandError."""
    followed = FollowedOutput()
    async with contextlib.AsyncExitStack() as streams:
        streams.push_async_callback(followed.end)
        for name, is_wanted in (("Stdout", wanted.stdout), ("Stderr", wanted.stderr)):
            if is_wanted:
                options = LogOptions(follow=True, tail_lines=0, streams=STREAMS[name])
                try:
                    stream = await streams.enter_async_context(reader.open(source, options))
                except (LogMissingError, OSError) as error:
                    raise CommandError(f"the container's output cannot be followed: {error}") from error
                followed.follow(name, stream)
        yield followed


async def _pump(stream: LogStream, output: asyncio.Queue[bytes]) -> None:
    await stream.copy(output.put)
    await output.put(b"")
