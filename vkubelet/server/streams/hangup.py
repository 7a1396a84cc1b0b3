"""Whether a client is still there when it is silent, or when nothing is read from it.

It exists because a command must not keep running for a client that has gone. As long as reading is paused, an
event loop does not hear of the connection's end, which stands behind what was not read; the kernel tells it
apart (EPOLLRDHUP, epoll_ctl(2)). It must not know what the connection carries.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from vkubelet.server.streams.racing import until

PATIENCE = 1.0
"""Seconds that reading must have been paused before it is worth to look."""
_KEEP_ALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 9}
"""Seconds and times that a silent client is asked for a sign of life: as the kubelet's, which are Go's."""


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Let the kernel find out that a silent client's machine is gone."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


class HangUpWatch:
    """Calls back when a connection's peer has closed or reset it."""

    def __init__(self, transport: asyncio.BaseTransport, on_hang_up: Callable[[], None]) -> None:
        """`on_hang_up` is called in the loop, once."""
        self._loop = asyncio.get_running_loop()
        self._on_hang_up = on_hang_up
        self._epoll = select.epoll()
        self._epoll.register(transport.get_extra_info("socket").fileno(), select.EPOLLRDHUP)
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def close(self) -> None:
        """Watch no more; may be called twice."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _ready(self) -> None:
        self.close()
        self._on_hang_up()


async def unless_hung_up(transport: asyncio.BaseTransport, waiting: Coroutine[Any, Any, Any]) -> bool:
    """Wait for what lets reading go on; false if the peer hangs up before, though not in the first moment."""
    task = asyncio.create_task(waiting, name="until reading goes on")
    try:
        done, _ = await asyncio.wait([task], timeout=PATIENCE)
        return bool(done) or not await until(_joined(task), _hung_up(transport))
    finally:
        task.cancel()


async def _joined(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])


async def _hung_up(transport: asyncio.BaseTransport) -> None:
    happened = asyncio.Event()
    watch = HangUpWatch(transport, happened.set)
    try:
        await happened.wait()
    finally:
        watch.close()
