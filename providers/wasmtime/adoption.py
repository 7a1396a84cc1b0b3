"""What an agent finds of those before it: containers, the boot that they belong to, where their cgroups are.

It exists because containers outlive agents but no boot: who opens a run directory must first learn what of it
still holds. It must not know what stands where in a container's directory, nor what becomes of its process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

from providers import intact
from providers.base import ContainerSpec, ContainerState, Exit
from providers.exhausted import lacking
from providers.wasmtime import statefiles
from providers.wasmtime.directory import RunDirectory
from providers.wasmtime.files import CorruptFileError, Started

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A container that the directory knows. `exit` is None if it may still run."""

    spec: ContainerSpec
    started: Started
    exit: Exit | None

    def state(self) -> ContainerState | None:
        """The same in the provider's terms; None for an instance of `run`, which is no container."""
        if self.spec.log_path is None:
            return None
        return ContainerState(
            id=self.spec.id,
            labels=self.spec.labels,
            log_path=self.spec.log_path,
            pid=self.started.pid,
            started_at=self.started.started_at,
            exit=self.exit,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Unknown:
    """A container that cannot be managed: what is known of its process, which must not go on."""

    started: Started | None
    log_path: Path | None


def scan(directory: RunDirectory) -> Iterator[tuple[str, Found | Unknown]]:
    """All containers that were begun. What never was is removed, what is corrupt is set aside.

    Raises OSError when the machine lacks what it takes to read them, or to take one back.
    """
    for path in sorted(directory.all()):
        found: Found | Unknown | None
        try:
            found = _found(directory, path.name)
        except (CorruptFileError, OSError) as error:
            if lacking(error):
                raise
            found = _unknown(directory, path.name)
            aside = directory.set_aside(path.name)
            _log.error("container %s is set aside as %s: %s", path.name, aside, error)
        if found is None:
            found = _unknown(directory, path.name)
            directory.discard(path.name)
        yield path.name, found


def _found(directory: RunDirectory, container_id: str) -> Found | None:
    try:
        spec = directory.read_spec(container_id)
    except FileNotFoundError:
        return None
    started: Started | None
    try:
        started = directory.read_started(container_id)
    except FileNotFoundError:
        started = directory.withdraw(container_id)
    if started is None or started.pid == 0:
        return None
    return Found(spec, started, directory.read_exit(container_id))


def _unknown(directory: RunDirectory, container_id: str) -> Unknown:
    """What can be told of its process, should it turn out that the container cannot be managed."""
    started: Started | None = None
    log: Path | None = None
    with contextlib.suppress(CorruptFileError, OSError):
        started = directory.read_started(container_id)
        started = started if started.pid else None
    with contextlib.suppress(CorruptFileError, OSError):
        log = directory.read_spec(container_id).log_path
    return Unknown(started, log)


def begin_boot(directory: RunDirectory, boot_id: str) -> bool:
    """Is this the boot that the containers belong to? If not, none of them runs.

    Where nothing tells, a container is the process of its number and start time.
    """
    path = directory.path / "boot-id"
    try:
        return str(uuid.UUID(statefiles.read(path).decode())) == boot_id
    except FileNotFoundError:
        _log.log(
            logging.ERROR if any(directory.all()) else logging.DEBUG,
            "%s is missing: containers are taken for those of this boot",
            path,
        )
    except ValueError as error:  # CorruptFileError is one too
        _log.error("%s: %s: set aside as %s", path, error, intact.set_aside(path))
    return True


def kept_cgroups(directory: RunDirectory) -> bytes | None:
    """What an earlier agent kept of where the cgroups are. Raises OSError."""
    path = directory.path / "cgroups"
    try:
        return statefiles.read(path)
    except FileNotFoundError:
        return None
    except CorruptFileError as error:
        _log.error("%s: %s: set aside as %s", path, error, intact.set_aside(path))
        return None


def keep_cgroups(directory: RunDirectory, data: bytes) -> None:
    """Let later agents know where the cgroups are. Raises OSError."""
    statefiles.write(f"{directory.path}/cgroups", data)


def finish_boot(directory: RunDirectory, boot_id: str) -> None:
    """From now on the containers belong to this boot. Raises OSError."""
    path = directory.path / "boot-id"
    with contextlib.suppress(FileNotFoundError, CorruptFileError):
        if statefiles.read(path) == boot_id.encode():
            return  # an agent that takes over from another needs no room on the disk
    statefiles.write(str(path), boot_id.encode())
