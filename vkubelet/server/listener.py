"""The door of the server: accepts connections, in bounded number, and has TLS spoken on them.

It exists because a server that takes every connection is ended by whoever opens enough of them, and because
the TLS context may be replaced while it listens. A flood of strangers drops the oldest of them: who means it
needs milliseconds from the first byte to the first request. Those who were let in are waited for. It must
not know HTTP.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Callable

from vkubelet.server.connection import Limits

logger = logging.getLogger(__name__)

# What no descriptor or no memory is left for passes, and nothing announces that it has.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_EXHAUSTED_PAUSE = 1.0

MakeProtocol = Callable[[Callable[[], None], Callable[[], None]], asyncio.Protocol]


class Listener:
    """Accepts on a listening socket, which it owns."""

    def __init__(
        self, listening: socket.socket, tls: ssl.SSLContext | None, limits: Limits, make: MakeProtocol
    ) -> None:
        """Without `tls`, none is spoken: on a socket that only its owner can open.

        `make` makes a connection's protocol of two functions.

        It calls the first when its client is no stranger any more, the second when it is over. No more than
        half of the process's descriptors go to connections.
        """
        self._tls = tls
        self._listening = listening
        self._limits = limits
        self._most = min(limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._make = make
        self._strangers: dict[int, socket.socket] = {}
        self._open: set[int] = set()
        self._room = asyncio.Event()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._begun: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._accepted = 0

    @property
    def connections(self) -> int:
        """How many are open, those in their TLS handshake included."""
        return len(self._open)

    def start(self) -> None:
        """Accept from now on."""
        self._listening.setblocking(False)
        self._accepting = asyncio.ensure_future(self._accept())

    def use_tls(self, tls: ssl.SSLContext) -> None:
        """Speak TLS with another context; handshakes under way, which believe as the former one does, end."""
        self._tls = tls
        for handshake in self._begun:
            handshake.cancel()

    async def close(self) -> None:
        """Accept no more and end the handshakes; connections that stand stay. May be called twice."""
        tasks = [task for task in (self._accepting, *self._handshakes) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._accepting = None
        self._listening.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listening)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    logger.error("cannot accept a connection: %s", error.strerror)  # noqa: TRY400
                    await asyncio.sleep(_EXHAUSTED_PAUSE)
                else:
                    logger.debug("a connection was gone before it was accepted: %s", error)
                continue
            try:
                await self._make_room()
            except BaseException:
                connection.close()
                raise
            self._take(connection)

    async def _make_room(self) -> None:
        """Have the oldest stranger go where there is one too many; else wait for somebody to leave."""
        while len(self._open) >= self._most and not self._strangers:
            self._room.clear()
            await self._room.wait()
        if len(self._strangers) >= self._limits.strangers or len(self._open) >= self._most:
            self._drop_oldest_stranger()

    def _take(self, connection: socket.socket) -> None:
        self._accepted += 1
        number = self._accepted
        self._open.add(number)
        self._strangers[number] = connection
        handshake = asyncio.ensure_future(self._shake_hands(number, connection))
        self._handshakes.add(handshake)
        handshake.add_done_callback(self._handshakes.discard)
        handshake.add_done_callback(self._begun.discard)

    async def _shake_hands(self, number: int, connection: socket.socket) -> None:
        # From here on it can be cancelled: a task that has not begun would leave its connection open.
        self._begun |= self._handshakes & {asyncio.current_task()}
        protocol = self._make(lambda: self._known(number), lambda: self._ended(number))
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self._limits.handshake,
            )
        except BaseException as error:
            self._ended(number)
            if not isinstance(error, OSError):
                raise
            logger.debug("a connection ended in the TLS handshake: %s", error)

    def _drop_oldest_stranger(self) -> None:
        oldest = next(iter(self._strangers))
        connection = self._strangers.pop(oldest)
        logger.debug("dropped the oldest connection that has not been let in, for a new one")
        try:
            # The transport owns the socket: it sees the end, and closes.
            connection.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            logger.debug("it was gone already: %s", error)

    def _known(self, number: int) -> None:
        self._strangers.pop(number, None)

    def _ended(self, number: int) -> None:
        self._known(number)
        self._open.discard(number)
        self._room.set()
