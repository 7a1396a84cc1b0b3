"""One forwarded connection: a channel of the client's joined with a socket of the pod's.

It exists to copy both ways at once, each way until its own end, with nothing held but the chunk under way. It
must not know how the client's bytes are framed, nor whose socket it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from vkubelet.pods.interaction import ForwardError
from vkubelet.server.streams.channel import CHUNK, Channel, ChannelClosedError

Connect = Callable[[int], Awaitable[socket.socket]]
"""Opens a non-blocking connection to a port of the pod. Raises ForwardError."""


async def forward(connect: Connect, port: int, channel: Channel) -> None:
    """Join `channel` with the pod's `port` until both ways have ended, or one is broken.

    Raises ForwardError when the pod's side cannot be had or breaks, ChannelClosedError when the client's is.
    """
    with contextlib.closing(await connect(port)) as connection:
        ways = (
            asyncio.create_task(_to_pod(channel, connection), name=f"to port {port}"),
            asyncio.create_task(_to_client(connection, channel), name=f"from port {port}"),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
        for way in ways:
            if not way.cancelled():
                _raise(way.exception())


def _raise(error: BaseException | None) -> None:
    if isinstance(error, OSError):
        raise ForwardError(error.strerror or str(error)) from error
    if error is not None:
        raise error


async def _to_pod(channel: Channel, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await channel.read():
        # Mostly the kernel takes all at once: only what it does not is worth a turn of the loop.
        try:
            sent = connection.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            await loop.sock_sendall(connection, data[sent:])
    if channel.broken:
        raise ChannelClosedError
    with contextlib.suppress(OSError):  # the pod may have closed its end before
        connection.shutdown(socket.SHUT_WR)


async def _to_client(connection: socket.socket, channel: Channel) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = connection.recv(CHUNK)
        except BlockingIOError:
            data = await loop.sock_recv(connection, CHUNK)
        if not data:
            break
        await channel.write(data)
    channel.close()
