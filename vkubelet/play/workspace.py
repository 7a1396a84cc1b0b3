"""The directories of one `vkubelet play`, of which nothing is left: not even when it was killed.

It exists because containers outlive whoever started them. Each play locks its own directory for as long as it
lives; what is not locked belongs to one that was killed, and the next one ends its containers and removes it.
It must not know pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import logging
import os
import secrets
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from providers.base import ContainerState, ProviderError
from providers.wasmtime.provider import WasmtimeProvider
from vkubelet.pods.volumes.removal import remove
from vkubelet.pods.volumes.tmpfs import is_in_memory
from vkubelet.startup import AgentError

logger = logging.getLogger(__name__)

_PATIENCE = 30.0
"""Seconds for killed containers to end."""
_LOCK = "lock"
_WHERE = "run-directory"
RUNTIME = "wasmtime"
"""The provider's part of the run directory."""


@dataclasses.dataclass(frozen=True, slots=True)
class Workspace:
    """What one play has. `run` is in memory where this user has such a place: secrets are in it."""

    directory: Path
    run: Path

    @property
    def compiled(self) -> Path:
        """Where code is that was compiled for this play alone."""
        return self.directory / "compiled"

    def remove(self) -> None:
        """Remove all of it. Blocks. Raises OSError."""
        remove(self.run)
        remove(self.directory)


@contextlib.asynccontextmanager
async def workspace() -> AsyncIterator[Workspace]:
    """Directories of this process alone; they go at the end. Raises AgentError."""
    try:
        parent = _parent()
        await _sweep(parent)
        directory = Path(tempfile.mkdtemp(dir=parent))
        held = _locked(directory)
        made = Workspace(directory, _run_directory(directory))
    except OSError as error:
        raise AgentError(f"no directory for what runs: {error}") from error
    try:
        yield made
    finally:
        await asyncio.to_thread(made.remove)
        if held is not None:
            os.close(held)
        with contextlib.suppress(OSError):
            parent.rmdir()


def _run_directory(directory: Path) -> Path:
    """Make the directory for what runs; where it is stands in a file first, for whoever has to remove it."""
    place = directory
    memory = os.environ.get("XDG_RUNTIME_DIR")
    with contextlib.suppress(OSError):
        if memory and is_in_memory(Path(memory)) and os.access(memory, os.W_OK | os.X_OK):
            place = Path(memory)
    run = place / ("run" if place is directory else f"vkubelet-play-{secrets.token_hex(8)}")
    (directory / _WHERE).write_text(str(run))
    run.mkdir(mode=0o700)
    return run


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
            left = await asyncio.to_thread(_recorded, directory)
            await _end(left)
            await asyncio.to_thread(left.remove)
        except (OSError, ProviderError, TimeoutError) as error:
            logger.warning("%s, of a play that was killed, is left alone: %s", directory, error)
        finally:
            os.close(held)


def _recorded(directory: Path) -> Workspace:
    """The workspace of a play that was killed, perhaps before it had one."""
    where = directory / _WHERE
    written = where.read_text() if where.exists() else ""
    return Workspace(directory, Path(written or directory / "run"))


async def _end(left: Workspace) -> None:
    """End the containers that a play has left. Raises ProviderError, TimeoutError."""
    place = left.run / RUNTIME
    if not await asyncio.to_thread(place.is_dir):
        return
    running: set[str] = set()
    over = asyncio.Event()

    def ended(state: ContainerState) -> None:
        running.discard(state.id)
        if not running:
            over.set()

    provider = WasmtimeProvider(place, left.compiled)
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
