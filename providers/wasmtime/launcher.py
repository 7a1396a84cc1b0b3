"""The launcher's program: starting it where none serves, replacing one of another version, reaching it.

It exists so that the provider asks for a connection and has one to a launcher that fits. It must not know
what is said over it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

from providers import programs
from providers.base import ProviderError
from providers.wasmtime import engine, sockets
from providers.wasmtime.connection import Connection

_log = logging.getLogger(__name__)

PROGRAM = Path(__file__).parent / "bin" / "vkubelet-launcher"
_START_SECONDS = 30
_HELLO_SECONDS = 5
_PASSED_ON = ("LD_LIBRARY_PATH",)
"""Of the agent's environment, which may hold secrets, containers' processes get no more than this."""
_REBUILD = "rebuild it: reinstall vkubelet, or `make native` in a source tree"


async def connect(run_dir: Path, on_ended: Callable[[str], None], program: Path = PROGRAM) -> Connection:
    """A connection to the launcher of `run_dir`, which is started if there is none.

    A launcher that another version of this program left is asked to end, and replaced; its containers run
    on. Raises ProviderError.
    """
    wanted = await identity(program)
    for _ in range(3):
        connection = await reach(run_dir, on_ended)
        if connection is None:
            await _run(program, str(run_dir), str(engine.library()))
            connection = await reach(run_dir, on_ended)
        if connection is None:
            continue
        if connection.identity == wanted:
            return connection
        _log.info("replacing the launcher %s by %s", connection.identity, wanted)
        connection.shut_down()
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                await asyncio.shield(connection.closed)
        except TimeoutError as error:
            raise ProviderError(f"{run_dir}: the launcher of another version does not end") from error
        finally:
            connection.close()
    raise ProviderError(f"no launcher serves {run_dir}")


async def reach(run_dir: Path, on_ended: Callable[[str], None]) -> Connection | None:
    """A connection to the launcher that serves `run_dir`; None if none does. Raises ProviderError."""
    try:
        client = sockets.connect(run_dir, "launcher.sock", socket.SOCK_STREAM)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise ProviderError(f"{run_dir}/launcher.sock: {error}") from error
    connection = Connection(client, on_ended)
    try:
        async with asyncio.timeout(_HELLO_SECONDS):
            await connection.ready
    except TimeoutError as error:
        connection.close()
        raise ProviderError(f"{run_dir}/launcher.sock: the launcher does not answer") from error
    except BaseException:
        connection.close()
        raise
    if connection.closed.done():
        return None
    return connection


async def identity(program: Path) -> str:
    """What the program was built from. Raises ProviderError if it does not fit what is installed."""
    line = (await _run(program, "--identity")).strip()
    words = line.split()
    if words[2:] != ["wasmtime", engine.version(), "engine", engine.settings_hash()]:
        raise ProviderError(
            f"{program} was built for {' '.join(words[2:])}, and installed are wasmtime {engine.version()} "
            f"engine {engine.settings_hash()}; {_REBUILD}"
        )
    return line


async def sandbox(program: Path) -> dict[str, str]:
    """The parts of a container's sandbox (see native/sandbox.h), and why this host does not allow each; empty
    for those that it does. Raises ProviderError.
    """
    lines = (await _run(program, "--sandbox")).splitlines()
    parts = (line.removeprefix("- ").partition(" ") for line in lines)
    return {name: why for name, _, why in parts}


async def _run(program: Path, *arguments: str) -> str:
    """Run the program until it returns, which it does at once: what serves is detached."""
    creating = asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    )
    try:
        ended = await programs.run(creating, _START_SECONDS)
    except TimeoutError as error:
        raise ProviderError(f"{program} did not start within {_START_SECONDS} s") from error
    except FileNotFoundError as error:
        raise ProviderError(f"{program} does not exist; {_REBUILD}") from error
    except OSError as error:
        raise ProviderError(f"{program} cannot be run: {error}") from error
    if ended.code != 0:
        raise ProviderError(f"{program}: {ended.errors.decode(errors='replace').strip() or 'failed'}")
    return ended.output.decode(errors="replace")
