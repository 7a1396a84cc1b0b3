"""The socket at which plugins register, `kubelet.sock` in the directory of their own sockets.

It exists because every node must listen there, whether or not a plugin ever comes: it is a plain socket, and
who connects is handed on. It must not know what a registration is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

logger = logging.getLogger(__name__)

SOCKET = "kubelet.sock"
CONNECTIONS = 16
"""At a time: each is a plugin that registers."""
LONGEST = 60.0
"""Seconds that one may stay."""
ANSWER_TIMEOUT = 5.0


class Door:
    """`directory` is that of the plugins' sockets, `serve` what is done with each connection."""

    def __init__(
        self, directory: Path, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        self._directory = directory
        self._serve = serve
        self._descriptor = -1
        self._socket: socket.socket | None = None
        self._listener: asyncio.Server | None = None
        self._free = asyncio.Semaphore(CONNECTIONS)

    async def open(self) -> None:
        """Listen. Raises OSError, also where another kubelet listens.

        Sockets of before are removed: a plugin whose socket is gone, or who sees ours made, registers anew.
        """
        self._descriptor = await asyncio.to_thread(_made, self._directory)
        await asyncio.to_thread(_clear, self._directory, self.place(SOCKET))
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.place(SOCKET)))
        self._listener = await asyncio.start_unix_server(self._accept, sock=self._socket)

    def place(self, name: str) -> Path:
        """A socket in the directory, by a path that is short: the address of one has 107 bytes at most."""
        return Path(f"/proc/self/fd/{self._descriptor}/{name}")

    def close(self) -> None:
        """Listen no more."""
        if self._listener is not None:
            self._listener.close()
        if self._socket is not None:
            (self._directory / SOCKET).unlink(missing_ok=True)
            self._socket.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._free, asyncio.timeout(LONGEST):
                await self._serve(reader, writer)
        except* TimeoutError:
            logger.warning("a device plugin did not register within %s s", LONGEST)
        except* OSError as group:
            logger.warning("a device plugin that registers: %s", group.exceptions[0])
        finally:
            writer.close()


def _is_served(place: Path) -> bool:
    """Whether somebody listens at a socket: the sockets beside it are those of another's plugins."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(ANSWER_TIMEOUT)
        try:
            asking.connect(str(place))
        except TimeoutError:
            return True
        except OSError:
            return False
    return True


def _made(directory: Path) -> int:
    """A descriptor of the directory, made if need be."""
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _clear(directory: Path, own: Path) -> None:
    """Remove the sockets in the directory, unless another has it."""
    if _is_served(own):
        raise OSError(errno.EADDRINUSE, "another kubelet listens there")
    for entry in os.scandir(directory):
        if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)  # noqa: PTH108
