"""A directory of one `vkubelet play`, of which nothing is left: not even when it was killed.

It exists because containers outlive whoever started them. Each play locks its own directory for as long as it
lives; what is not locked belongs to one that was killed, and the next one ends its containers and removes it.
It must not know pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from providers.base import ContainerState, ProviderError
from providers.wasmtime.provider import WasmtimeProvider
from vkubelet.pods.volumes.removal import remove
from vkubelet.startup import AgentError

logger = logging.getLogger(__name__)

_PATIENCE = 30.0
"""Seconds for killed containers to end."""
_LOCK = "lock"
RUN = "run"
COMPILED = "compiled"


@contextlib.asynccontextmanager
async def workspace() -> AsyncIterator[Path]:
    """A directory of this process alone; it goes at the end. Raises AgentError."""
    try:
        parent = _parent()
        await _sweep(parent)
        directory = Path(tempfile.mkdtemp(dir=parent))
        held = _locked(directory)
    except OSError as error:
        raise AgentError(f"no directory for what runs: {error}") from error
    try:
        yield directory
    finally:
        with contextlib.suppress(FileNotFoundError):
            remove(directory)
        if held is not None:
            os.close(held)
        with contextlib.suppress(OSError):
            parent.rmdir()


def _parent() -> Path:
    """This user's directory for all plays: nobody else may have made it. Raises OSError."""
    path = Path(tempfile.gettempdir()) / f"vkubelet-play-{os.geteuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{path} is not a directory of this user alone")
    return path


def _locked(directory: Path) -> int | None:
    """Hold the directory; None if another process does."""
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


async def _sweep(parent: Path) -> None:
    """End and remove what plays that were killed have left."""
    for directory in await asyncio.to_thread(lambda: list(parent.iterdir())):
        try:
            held = _locked(directory)
        except OSError as error:
            logger.warning("%s is left alone: %s", directory, error)
            continue
        if held is None:
            continue
        try:
            await _end(directory)
            await asyncio.to_thread(remove, directory)
        except (OSError, ProviderError, TimeoutError) as error:
            logger.warning("%s, of a play that was killed, is left alone: %s", directory, error)
        finally:
            os.close(held)


async def _end(directory: Path) -> None:
    """End the containers that are left in a directory. Raises ProviderError, TimeoutError."""
    place = directory / RUN / "wasmtime"
    if not await asyncio.to_thread(place.is_dir):
        return
    running: set[str] = set()
    over = asyncio.Event()

    def ended(state: ContainerState) -> None:
        running.discard(state.id)
        if not running:
            over.set()

    provider = WasmtimeProvider(place, directory / COMPILED)
    try:
        running.update(state.id for state in await provider.open(ended) if state.exit is None)
        for identifier in list(running):
            logger.warning("ending container %s, which a play that was killed has left", identifier[:12])
            await provider.kill(identifier)
        if running:
            async with asyncio.timeout(_PATIENCE):
                await over.wait()
    finally:
        await provider.close()
