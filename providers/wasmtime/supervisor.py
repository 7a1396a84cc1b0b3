"""Having a launcher, always: the connection to it, and another one when it ends.

It exists so that the provider asks for a connection and gets one, and is told when there was a time without:
ends that happened then, nobody told. It must not know what a container is, nor what is asked of a launcher.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from providers.base import ProviderError
from providers.wasmtime import launcher
from providers.wasmtime.connection import Connection

_log = logging.getLogger(__name__)

_LAUNCHER_SECONDS = 60
_SHUT_DOWN_SECONDS = 5
_RETRY_SECONDS = 1.0
_RETRY_MAX_SECONDS = 30.0


class Supervisor:
    """The launcher of one run directory. It belongs to one event loop."""

    def __init__(
        self, run_dir: Path, program: Path, on_ended: Callable[[str], None], on_gone: Callable[[], None]
    ) -> None:
        """`on_ended` hears what the launcher tells of; `on_gone`, that one has ended and tells no more."""
        self._run_dir = run_dir
        self._program = program
        self._on_ended = on_ended
        self._on_gone = on_gone
        self._connected = asyncio.Event()
        self._trouble = ""
        self.connection: Connection | None = None

    async def connect(self) -> None:
        """Have a connection, to a launcher that is started if there is none. Raises ProviderError."""
        connection = await launcher.connect(self._run_dir, self._on_ended, self._program)
        self.connection = connection
        self._connected.set()
        connection.closed.add_done_callback(self._disconnected)

    def _disconnected(self, _closed: asyncio.Future[None]) -> None:
        self.connection = None
        self._connected.clear()

    async def supervise(self) -> None:
        """Have a launcher until this is cancelled."""
        delay = _RETRY_SECONDS
        while True:
            connection = self.connection
            if connection is not None:
                await asyncio.shield(connection.closed)
                _log.warning("the launcher is gone; its containers run on")
            try:
                self._on_gone()
                await self.connect()
                delay = _RETRY_SECONDS
            except (ProviderError, OSError) as error:
                self._trouble = str(error)
                _log.error("no launcher, trying again in %.0f s: %s", delay, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_MAX_SECONDS)

    async def ready(self) -> Connection:
        """The connection, as soon as there is one. Raises ProviderError if there is none for a minute."""
        while self.connection is None:
            try:
                async with asyncio.timeout(_LAUNCHER_SECONDS):
                    await self._connected.wait()
            except TimeoutError as error:
                raise ProviderError(f"no launcher: {self._trouble}") from error
        return self.connection

    async def end(self) -> None:
        """Have the launcher end, also one that there is no connection to."""
        connection = self.connection
        try:
            if connection is None:
                connection = await launcher.reach(self._run_dir, self._on_ended)
            if connection is not None:
                connection.shut_down()
                async with asyncio.timeout(_SHUT_DOWN_SECONDS):
                    await asyncio.shield(connection.closed)
        except (ProviderError, TimeoutError) as error:
            _log.warning("the launcher goes on without an agent: %s", error or "it does not end")
        finally:
            if connection is not None:
                connection.close()

    def close(self) -> None:
        """Let go of the launcher, which goes on."""
        if self.connection is not None:
            self.connection.close()
