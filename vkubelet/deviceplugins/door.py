"""The socket at which plugins register, `kubelet.sock` in the directory of their own sockets.

It exists because every node must listen there, whether or not a plugin ever comes: it is a plain socket, and
who connects is handed on. It must not know what a registration is.
"""

from __future__ import annotations

import asyncio
import contextlib
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
        """Listen. Raises OSError.

        Sockets of before are removed: a plugin whose socket is gone, or who sees ours made, registers anew.
        """
        await asyncio.to_thread(_clear, self._directory)
        self._descriptor = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
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


def _clear(directory: Path) -> None:
    """Make the directory, or remove the sockets in it."""
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    for entry in os.scandir(directory):
        if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)  # noqa: PTH108
