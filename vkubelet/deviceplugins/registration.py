"""gRPC's server for plugins that register, behind the socket that they connect to.

It exists because gRPC cannot take over a connection that another has accepted: bytes are passed on to a
socket that only this agent can reach. A plugin registers once in its life. It must not know what that means.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from vkubelet.deviceplugins.messages import REGISTER, Empty, RegisterRequest
from vkubelet.pods.devices import DeviceError
from vkubelet.rpc.client import library, see_that_files_are_left
from vkubelet.rpc.messages import DecodeError, decode, encode

logger = logging.getLogger(__name__)

_BUFFER = 1 << 16


class RegistrationServer:
    """`private` is a directory of this agent alone."""

    def __init__(self, private: Path, register: Callable[[RegisterRequest], Awaitable[None]]) -> None:
        """`register` takes a plugin in; it raises DeviceError with what the plugin is told."""
        self._private = private
        self._register = register
        self._descriptor = -1
        self._server: Any = None
        self._starting = asyncio.Lock()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass everything on, both ways, until one of both has ended. Raises OSError."""
        async with self._starting:
            if self._server is None:
                await self._start()
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._place)
        ways = [
            asyncio.ensure_future(_pass_on(reader, inner_writer)),
            asyncio.ensure_future(_pass_on(inner_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            inner_writer.close()
        await asyncio.gather(*(way for way in ways if way.done()))

    async def close(self) -> None:
        """Take no more registrations."""
        if self._server is not None:
            await self._server.stop(None)
            self._place.unlink(missing_ok=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)

    @property
    def _place(self) -> Path:
        """Short, as the address of a socket must be."""
        return Path(f"/proc/self/fd/{self._descriptor}/registration.sock")

    async def _start(self) -> None:
        if self._descriptor < 0:
            self._descriptor = os.open(self._private, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        aio = await library()
        see_that_files_are_left()
        server = aio.server()
        grpc = importlib.import_module("grpc")
        _, service, name = REGISTER.path.split("/")
        method = grpc.unary_unary_rpc_method_handler(self._serve)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: method}),))
        self._place.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{self._place}")
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


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All bytes, until there are no more, or nobody is there to take them."""
    with contextlib.suppress(ConnectionError):
        while (data := await reader.read(_BUFFER)) and not writer.is_closing():
            writer.write(data)
            await writer.drain()
