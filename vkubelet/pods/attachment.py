"""A client's part in a running container that has a standard input or a terminal.

It exists to take apart what the container's process sends over its one socket (see Provider.attach) and to
put a client's input and terminal size into packets. It must not know where the client is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator

from providers.base import Provider, ProviderError
from vkubelet.pods import descriptors
from vkubelet.pods.interaction import CommandError, Wanted

_INPUT, _STDOUT, _STDERR, _RESIZE, _NO_MORE_INPUT, _NO_INPUT = range(6)
_PACKET = 32 * 1024
"""Bytes of data in one packet."""
_AHEAD = 2
"""Packets read before the client has taken them: enough to overlap, and the container waits after them."""


class Attachment:
    """Implements vkubelet.pods.interaction.Interaction over a container's socket."""

    def __init__(self, connection: socket.socket, wanted: Wanted) -> None:
        """The connection is the caller's to close; `pump` must run."""
        self._connection = connection
        self._wanted = wanted
        self._outputs: dict[int, asyncio.Queue[bytes]] = {
            _STDOUT: asyncio.Queue(_AHEAD),
            _STDERR: asyncio.Queue(_AHEAD),
        }
        self._over = asyncio.Event()
        for stream, output in self._outputs.items():
            if not {_STDOUT: wanted.stdout, _STDERR: wanted.stderr}[stream]:
                output.put_nowait(b"")

    async def pump(self) -> None:
        """Take what the container writes, until its end."""
        taken = {_STDOUT: self._wanted.stdout, _STDERR: self._wanted.stderr}
        try:
            while packet := await self._receive():
                stream = packet[0]
                if taken.get(stream):
                    await self._outputs[stream].put(packet[1:])
        finally:
            self._over.set()
        for stream, output in self._outputs.items():
            if taken[stream]:
                await output.put(b"")

    async def _receive(self) -> bytes:
        descriptor = self._connection.fileno()
        while True:
            try:
                return os.read(descriptor, _PACKET + 1)
            except BlockingIOError:
                await descriptors.readable(descriptor)
            except ConnectionResetError:
                continue  # it ended with input unread: what it wrote before is still there, and then the end

    async def read_stdout(self) -> bytes:
        """See Interaction."""
        return await self._outputs[_STDOUT].get()

    async def read_stderr(self) -> bytes:
        """See Interaction."""
        return await self._outputs[_STDERR].get()

    async def write_stdin(self, data: bytes) -> None:
        """See Interaction."""
        view = memoryview(data)
        for start in range(0, len(view), _PACKET):
            await self._send(bytes((_INPUT,)) + view[start : start + _PACKET])

    async def close_stdin(self) -> None:
        """See Interaction."""
        if self._wanted.stdin:
            with contextlib.suppress(BrokenPipeError):  # it has ended, which is more than no input
                await self._send(bytes((_NO_MORE_INPUT,)))

    async def _send(self, packet: bytes) -> None:
        while True:
            try:
                self._connection.send(packet, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                await descriptors.writable(self._connection.fileno())
            except ConnectionError as error:
                raise BrokenPipeError(str(error)) from error
            else:
                return

    def resize(self, width: int, height: int) -> None:
        """See Interaction. A size that finds no room is dropped: another follows when it matters."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            packet = struct.pack("!BHH", _RESIZE, height & 0xFFFF, width & 0xFFFF)
            self._connection.send(packet, socket.MSG_NOSIGNAL)

    async def wait(self) -> int:
        """See Interaction: the container's end is no failure of who was attached to it."""
        await self._over.wait()
        return 0


@contextlib.asynccontextmanager
async def attach(provider: Provider, container_id: str, wanted: Wanted) -> AsyncIterator[Attachment]:
    """Be attached to a container for as long as the block lasts. Raises CommandError."""
    try:
        connection = await provider.attach(container_id)
    except ProviderError as error:
        raise CommandError(f"failed to attach to container: {error}") from error
    with connection:
        attachment = Attachment(connection, wanted)
        if not wanted.stdin:
            with contextlib.suppress(ConnectionError):  # it has ended meanwhile, as its output will say
                connection.send(bytes((_NO_INPUT,)), socket.MSG_NOSIGNAL)
        pump = asyncio.create_task(attachment.pump(), name=f"attach {container_id[:12]}")
        try:
            yield attachment
        finally:
            pump.cancel()
            await asyncio.wait([pump])
