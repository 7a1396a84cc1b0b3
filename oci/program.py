"""A program of somebody else's, asked one thing: words to its standard input, words from its output.

It exists because helpers hang, write without end and leave children behind, and none of that may stay. It
must not know what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from oci.errors import printable
from oci.flights import ended

_TOLD = 300


class ProgramError(Exception):
    """No answer: it could not be started, took too long or did not stop writing; the text names it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program wrote, and how it ended. Output may be secret, so it is not shown."""

    status: int
    output: bytes = field(repr=False)
    errors: bytes = field(repr=False)

    @property
    def complaint(self) -> str:
        """The end of what it wrote to its standard error, in one printable line."""
        return printable(self.errors.decode(errors="replace").strip()[-_TOLD:])


async def ask(
    command: Sequence[str], question: bytes, *, environment: Mapping[str, str], deadline: float, limit: int
) -> Answer:
    """Run a program to its end, within `deadline` seconds and `limit` bytes of either output.

    Otherwise, or cancelled, it is killed with the processes of its group. Raises ProgramError.
    """
    try:
        async with asyncio.timeout(deadline), _running(command, environment) as process:
            output, errors, _ = await asyncio.gather(
                _read(process, process.stdout, limit),
                _read(process, process.stderr, limit),
                _write(cast("asyncio.StreamWriter", process.stdin), question),
            )
            status = await process.wait()
    except TimeoutError as error:
        raise ProgramError(f"{command[0]}: no answer within {deadline:g} s") from error
    if len(output) > limit or len(errors) > limit:
        raise ProgramError(f"{command[0]}: wrote more than {limit} bytes")
    return Answer(status, output, errors)


@contextlib.asynccontextmanager
async def _running(
    command: Sequence[str], environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process, of which nothing stays. Raises ProgramError."""
    creating = asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),  # uvloop takes no other mapping
        start_new_session=True,
    )
    creation = asyncio.ensure_future(creating)
    try:
        try:
            process = await asyncio.shield(creation)
        except OSError as error:
            raise ProgramError(f"{command[0]}: cannot be started: {error.strerror or error}") from error
        yield process
    finally:
        # A creation takes no time, and one that was cancelled would leave what it has made.
        await ended(creation)
        if creation.exception() is None:
            process = creation.result()
            _kill(process)
            # Who has left its group may hold the pipes' other ends, and `wait` waits for these, too.
            cast("Any", process)._transport.close()
            await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    """With its group, unless it has ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _read(
    process: asyncio.subprocess.Process, stream: asyncio.StreamReader | None, limit: int
) -> bytes:
    """All that it writes; of one that writes more than `limit` bytes, one byte more, and it is killed."""
    stream, data = cast("asyncio.StreamReader", stream), b""
    while len(data) <= limit and (piece := await stream.read(limit + 1 - len(data))):
        data += piece
    if len(data) > limit:
        _kill(process)
    return data


async def _write(stream: asyncio.StreamWriter, data: bytes) -> None:
    # One that reads nothing may have ended already.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
    stream.close()
