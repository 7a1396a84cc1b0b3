"""A command's standard files, copied between the client's channels and the Interaction that runs it.

It exists so that exec and attach are one thing, over SPDY and over WebSocket. It must not know either, nor
HTTP.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from vkubelet.pods.interaction import CommandError, Interaction, InteractionError
from vkubelet.server.streams import status
from vkubelet.server.streams.channel import Channel, ChannelClosedError
from vkubelet.server.streams.status import CommandStatus

_MAX_SIZES = 4096
"""Characters of terminal sizes that may be incomplete; one size has some thirty."""
_MAX_LENGTH = 0xFFFF
"""Of a terminal's side, in characters."""


@dataclass(slots=True)
class CommandChannels:
    """The client's ends. None for what it does not want, or its protocol does not have."""

    error: Channel
    json_status: bool
    """Whether the error channel carries a Status object (v4 and later), or only the text of an error."""
    stdin: Channel | None = None
    stdout: Channel | None = None
    stderr: Channel | None = None
    resize: Channel | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """What is to be run or joined, and how its failure is told."""

    enter: Callable[[], AbstractAsyncContextManager[Interaction]]
    failure: str
    """What stands before an error's text: "error executing command in container"."""


async def serve(command: Command, channels: CommandChannels) -> None:
    """Run `command` for the client until it ends, and say how. Raises ChannelClosedError: the client left."""
    try:
        async with command.enter() as interaction:
            ended = status.exited(await _copy(interaction, channels))
            await _tell(ended, channels)
    except (CommandError, InteractionError) as error:
        await _tell(status.failed(f"{command.failure}: {error}"), channels)


async def _tell(ended: CommandStatus, channels: CommandChannels) -> None:
    for output in (channels.stdout, channels.stderr):
        if output is not None:
            output.close()
    text = ended.as_json() if channels.json_status else ended.as_text()
    if text:
        await channels.error.write(text)
    for channel in (channels.error, channels.stdin, channels.resize):
        if channel is not None:
            channel.close()


async def _copy(interaction: Interaction, channels: CommandChannels) -> int:
    """Copy until the command has ended and all its output is sent; its exit code."""
    inputs, outputs = [], []
    if channels.stdin is not None:
        inputs.append(asyncio.create_task(_input(channels.stdin, interaction), name="stdin"))
    if channels.resize is not None:
        inputs.append(asyncio.create_task(_resize(channels.resize, interaction), name="resize"))
    # Of what is there already, errors go first: `kubectl cp` waits for nothing behind the end of an archive.
    if channels.stderr is not None:
        copying = _output(interaction.read_stderr, channels.stderr)
        outputs.append(asyncio.create_task(copying, name="stderr"))
    if channels.stdout is not None:
        copying = _output(interaction.read_stdout, channels.stdout)
        outputs.append(asyncio.create_task(copying, name="stdout"))
    try:
        code = await interaction.wait()
        await asyncio.gather(*outputs)
    finally:
        tasks = inputs + outputs
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
    for task in inputs:
        if not task.cancelled():
            task.result()
    return code


async def _input(channel: Channel, interaction: Interaction) -> None:
    try:
        while data := await channel.read():
            await interaction.write_stdin(bytes(data))
        await interaction.close_stdin()
    except BrokenPipeError:
        # Nobody reads it any more, which must not stop what else the connection carries.
        channel.discard()


async def _output(read: Callable[[], Awaitable[bytes]], channel: Channel) -> None:
    """Copy one output. What a client has let go of is read all the same: the command must not hang."""
    wanted = True
    while data := await read():
        if wanted:
            try:
                await channel.write(data)
            except ChannelClosedError:
                wanted = False


async def _resize(channel: Channel, interaction: Interaction) -> None:
    """Terminal sizes are JSON objects one after the other; behind one that is none, they mean nothing."""
    decoder, text = json.JSONDecoder(), ""
    while data := await channel.read():
        text += bytes(data).decode("utf-8", "replace")
        while text := text.lstrip():
            try:
                size, end = decoder.raw_decode(text)
            except (ValueError, RecursionError):
                break
            text = text[end:]
            found = _size(size)
            if found is None:
                channel.discard()
                return
            interaction.resize(*found)
        if len(text) > _MAX_SIZES:
            channel.discard()
            return


def _size(value: object) -> tuple[int, int] | None:
    """Width and height. As Go's decoder: names in any case, 0 for what is missing, 16 bits each."""
    if not isinstance(value, dict):
        return None
    named = {str(name).lower(): number for name, number in value.items()}
    width, height = named.get("width", 0), named.get("height", 0)
    for number in (width, height):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _MAX_LENGTH:
            return None
    return width, height
