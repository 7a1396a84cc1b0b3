"""The agent's side of the launcher: starting the program, and one connection to it.

It exists so that the provider asks for a container and awaits its process, and hears of ends, without
knowing about sockets, lines or request numbers. It must not know what a container is. The messages are
described in `native/launcher.c`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import cast

from providers.base import ProviderError
from providers.wasmtime import engine

_log = logging.getLogger(__name__)

PROGRAM = Path(__file__).parent / "bin" / "vkubelet-launcher"
_START_SECONDS = 30
_HELLO_SECONDS = 5
_ANSWER_SECONDS = 30.0
_PASSED_ON = ("LD_LIBRARY_PATH",)
"""Of the agent's environment, which may hold secrets, containers' processes get no more than this."""
_REBUILD = "rebuild it: reinstall vkubelet, or `make native` in a source tree"


class LauncherGoneError(Exception):
    """The launcher ended, or dropped the connection: what was asked of it may or may not have happened."""


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """A container's process. `start_time` is in clock ticks since boot, `started_at` in ns (Unix)."""

    pid: int
    start_time: int
    started_at: int


class Connection(asyncio.Protocol):
    """One connection to a launcher: requests, each answered in its time, and news of ends."""

    def __init__(self, on_ended: Callable[[str], None]) -> None:
        self.identity = ""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.launcher_pid = 0
        self._on_ended = on_ended
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._requests: dict[str, asyncio.Future[Process]] = {}
        self._next = 0
        self._oldest = 0
        self._watchdog: asyncio.TimerHandle | None = None

    def start(self, container_id: str) -> asyncio.Future[Process]:
        """Ask for a container's process. Fails with ProviderError, or LauncherGoneError: nobody knows."""
        answer: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            answer.set_exception(LauncherGoneError())
            return answer
        self._next += 1
        self._requests[str(self._next)] = answer
        if self._watchdog is None:
            self._watch()
        self._transport.write(f"start {self._next} {container_id}\n".encode())
        return answer

    def _watch(self) -> None:
        """One timer for all requests: who answers none for this long is let go of."""
        if self._requests and int(next(iter(self._requests))) <= self._oldest:
            _log.error("the launcher has not answered for %.0f s; letting go of it", _ANSWER_SECONDS)
            self.close()
            return
        self._oldest = self._next
        self._watchdog = None
        if self._requests:
            self._watchdog = asyncio.get_running_loop().call_later(_ANSWER_SECONDS, self._watch)

    def shut_down(self) -> None:
        """Ask the launcher to end; `closed` tells when it has."""
        if self._transport is not None:
            self._transport.write(b"shutdown\n")

    def close(self) -> None:
        """Let go of the launcher, which goes on."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # A stream socket's; uvloop's transports do not inherit from asyncio's class for them.
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("socket")
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.launcher_pid = struct.unpack("3i", credentials)[0]

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            try:
                self._on_line(line.decode(errors="replace"))
            except (ValueError, KeyError):
                _log.error("the launcher sent %r, which is no message; letting go of it", line)
                self.close()
                return

    def _on_line(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        if not self.ready.done():
            self.identity = line
            self.ready.set_result(None)
        elif verb == "ended":
            self._on_ended(rest)
        elif verb == "started":
            request, pid, start_time, started_at = rest.split()
            _settle(self._requests.pop(request), Process(int(pid), int(start_time), int(started_at)))
        elif verb == "failed":
            request, _, text = rest.partition(" ")
            _settle(self._requests.pop(request), ProviderError(text))
        else:
            raise ValueError(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        if self._watchdog is not None:
            self._watchdog.cancel()
        if not self.closed.done():
            self.closed.set_result(None)
        if not self.ready.done():
            self.ready.set_result(None)
        for answer in self._requests.values():
            _settle(answer, LauncherGoneError())
        self._requests.clear()


def _settle(answer: asyncio.Future[Process], result: Process | Exception) -> None:
    if answer.done():  # whoever asked has gone
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


async def connect(run_dir: Path, on_ended: Callable[[str], None], program: Path = PROGRAM) -> Connection:
    """A connection to the launcher of `run_dir`, which is started if there is none.

    A launcher that another version of this program left is asked to end, and replaced; its containers run
    on. Raises ProviderError.
    """
    identity = await _identity(program)
    for _ in range(3):
        connection = await reach(run_dir, on_ended)
        if connection is None:
            await _run(program, str(run_dir), str(engine.library()))
            connection = await reach(run_dir, on_ended)
        if connection is None:
            continue
        if connection.identity == identity:
            return connection
        _log.info("replacing the launcher %s by %s", connection.identity, identity)
        connection.shut_down()
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                await connection.closed
        finally:
            connection.close()
    raise ProviderError(f"no launcher serves {run_dir}")


async def reach(run_dir: Path, on_ended: Callable[[str], None]) -> Connection | None:
    """A connection to the launcher that serves `run_dir`; None if none does. Raises ProviderError."""
    # The address of a Unix socket is limited to 107 bytes, and a directory's path is not: go by its number.
    directory = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setblocking(False)
    try:
        client.connect(f"/proc/self/fd/{directory}/launcher.sock")
    except (FileNotFoundError, ConnectionRefusedError):
        client.close()
        return None
    except OSError as error:
        client.close()
        raise ProviderError(f"{run_dir}/launcher.sock: {error}") from error
    finally:
        os.close(directory)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_unix_connection(lambda: Connection(on_ended), sock=client)
    try:
        async with asyncio.timeout(_HELLO_SECONDS):
            await connection.ready
    except TimeoutError as error:
        connection.close()
        raise ProviderError(f"{run_dir}/launcher.sock: the launcher does not answer") from error
    if connection.closed.done():
        return None
    return connection


async def _identity(program: Path) -> str:
    """What the program was built from. Raises ProviderError if it does not fit what is installed."""
    line = (await _run(program, "--identity")).strip()
    words = line.split()
    if words[2:] != ["wasmtime", engine.version(), "engine", engine.settings_hash()]:
        raise ProviderError(
            f"{program} was built for {' '.join(words[2:])}, and installed are wasmtime {engine.version()} "
            f"engine {engine.settings_hash()}; {_REBUILD}"
        )
    return line


async def _run(program: Path, *arguments: str) -> str:
    """Run the program until it returns, which it does at once: what serves is detached."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        )
    except FileNotFoundError as error:
        raise ProviderError(f"{program} does not exist; {_REBUILD}") from error
    except OSError as error:
        raise ProviderError(f"{program} cannot be run: {error}") from error
    try:
        async with asyncio.timeout(_START_SECONDS):
            output, errors = await process.communicate()
    except BaseException as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise ProviderError(f"{program} did not start within {_START_SECONDS} s") from error
        raise
    if process.returncode != 0:
        raise ProviderError(f"{program}: {errors.decode(errors='replace').strip() or 'failed'}")
    return output.decode(errors="replace")
