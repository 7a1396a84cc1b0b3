"""The socket at which plugins register, `kubelet.sock` in the directory of their own sockets.

It exists because gRPC's library takes ten megabytes of memory, and a node must listen whether or not a plugin
ever comes: what listens is a plain socket, and the first that connects has gRPC's server started behind it,
at a socket that only this agent can reach. Bytes are passed on from one to the other; a plugin registers once
in its life. It must not know what a registration means.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from vkubelet.deviceplugins.messages import REGISTER, Empty, RegisterRequest
from vkubelet.pods.devices import DeviceError
from vkubelet.rpc.client import library
from vkubelet.rpc.messages import DecodeError, decode, encode

logger = logging.getLogger(__name__)

SOCKET = "kubelet.sock"
CONNECTIONS = 16
"""At a time: each is a plugin that registers."""
LONGEST = 60.0
"""Seconds that one may stay."""
_BUFFER = 1 << 16


class RegistrationServer:
    """`directory` is that of the plugins' sockets, `private` one of this agent alone."""

    def __init__(
        self, directory: Path, private: Path, register: Callable[[RegisterRequest], Awaitable[None]]
    ) -> None:
        """`register` takes a plugin in; it raises DeviceError with what the plugin is told."""
        self._directory = directory
        self._behind = private / "registration.sock"
        self._register = register
        self._descriptor = -1
        self._socket: socket.socket | None = None
        self._listener: asyncio.Server | None = None
        self._server: Any = None
        self._starting = asyncio.Lock()
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

    async def close(self) -> None:
        """Take no more registrations."""
        if self._listener is not None:
            self._listener.close()
        if self._socket is not None:
            (self._directory / SOCKET).unlink(missing_ok=True)
            self._socket.close()
        if self._server is not None:
            await self._server.stop(None)
            self._behind.unlink(missing_ok=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._free, asyncio.timeout(LONGEST):
                await self._ensure_server()
                await self._relay(reader, writer)
        except* TimeoutError:
            logger.warning("a device plugin did not register within %s s", LONGEST)
        except* OSError as group:
            logger.warning("a device plugin that registers: %s", group.exceptions[0])
        finally:
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass everything on, both ways, until both have ended."""
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._behind)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, inner_writer))
                group.create_task(_pass_on(inner_reader, writer))
        finally:
            inner_writer.close()

    async def _ensure_server(self) -> None:
        """Start gRPC's server, once."""
        async with self._starting:
            if self._server is not None:
                return
            server = (await library()).server()
            grpc = importlib.import_module("grpc")
            _, service, name = REGISTER.path.split("/")
            method = grpc.unary_unary_rpc_method_handler(self._serve)
            handler = grpc.method_handlers_generic_handler(service, {name: method})
            server.add_generic_rpc_handlers((handler,))
            self._behind.unlink(missing_ok=True)
            server.add_insecure_port(f"unix:{self._behind}")
            await server.start()
            self._server = server

    async def _serve(self, data: bytes, context: Any) -> bytes:
        try:
            await self._register(decode(data, RegisterRequest))
        except (DecodeError, DeviceError) as error:
            logger.warning("a device plugin was not registered: %s", error)
            code = importlib.import_module("grpc").StatusCode.UNKNOWN
            await context.abort(code, str(error))
        return encode(Empty())


def _clear(directory: Path) -> None:
    """Make the directory, or remove the sockets in it."""
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    for entry in os.scandir(directory):
        if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)  # noqa: PTH108


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All bytes, and then their end; it is the end too when nobody is there to take them."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_BUFFER):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
