"""The provider interface: all that the agent may ask of whatever runs its containers.

It exists so that pod semantics (restart policy, back-off, status) never see a process, and so that a
runtime never sees a pod. It must not know Kubernetes: labels are opaque text that a provider stores with
a container and gives back, which is how a new agent recognises what an old one started.

A container is started once and ends once. A restart is a new container with a new id.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol


class ProviderError(Exception):
    """A container could not be prepared, started or removed; the text says why, for the pod's owner."""


class InvalidModuleError(ProviderError):
    """The bytes are no WebAssembly, or a module this provider cannot run (imports, no entry point)."""


class InvalidSpecError(ProviderError):
    """The spec cannot be honoured (arguments too long, a preopen that does not exist)."""


class ModuleKind(enum.Enum):
    """What the WebAssembly binary is: a core module for WASI preview 1, or a preview 2 component."""

    MODULE = "module"
    COMPONENT = "component"


@dataclasses.dataclass(frozen=True, slots=True)
class Artifact:
    """Code made ready to run: compiled ahead of time by this node, for this engine version."""

    path: Path
    kind: ModuleKind


@dataclasses.dataclass(frozen=True, slots=True)
class Preopen:
    """A host directory that the guest sees at an absolute guest path."""

    host: Path
    guest: str
    read_only: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerSpec:
    """All that a provider needs to start one container.

    `id` is 64 lower-case hex digits. The guest's root directory `/` is made by the provider, empty and
    writable, and dies with the container. `working_dir` reaches the guest as PWD: WASI has no other
    notion of it. `memory_limit` is in bytes of linear memory, None for no limit of our own.
    The log file is written in the CRI format and rotated when it exceeds `log_max_bytes`; at most
    `log_max_files` files are kept, the current one included.
    """

    id: str
    labels: Mapping[str, str]
    artifact: Artifact
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    log_path: Path
    working_dir: str = "/"
    preopens: tuple[Preopen, ...] = ()
    memory_limit: int | None = None
    log_max_bytes: int = 10 * 1024 * 1024
    log_max_files: int = 5


class ExitReason(enum.Enum):
    """Why a container ended."""

    COMPLETED = "completed"  # returned from its entry point, or proc_exit(0)
    ERROR = "error"  # exited with a code other than 0
    TRAP = "trap"  # the guest trapped; code 134, as a process that aborts
    OUT_OF_MEMORY = "out-of-memory"  # trapped after its memory limit refused it memory; code 137
    KILLED = "killed"  # ended by a signal and left no record; code 128 + signal
    CANNOT_RUN = "cannot-run"  # never reached the guest's first instruction; code 128


@dataclasses.dataclass(frozen=True, slots=True)
class Exit:
    """The end of a container. Times are nanoseconds since the epoch.

    `started_at` is 0 when the guest's first instruction was never reached. `message` is for people: the
    trap and its backtrace, or why it could not run; at most 4096 bytes.
    """

    code: int
    reason: ExitReason
    message: str
    started_at: int
    finished_at: int
    signal: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerState:
    """What is known of a container. `exit` is None while it runs; `started_at` is ns since the epoch."""

    id: str
    labels: Mapping[str, str]
    log_path: Path
    pid: int
    started_at: int
    exit: Exit | None = None


ExitListener = Callable[[ContainerState], None]


class Provider(Protocol):
    """What the agent may ask. Every method is safe to cancel and leaves files consistent."""

    async def open(self, on_exit: ExitListener) -> list[ContainerState]:
        """Take charge: find what an earlier agent left, running or ended, and report ends from now on.

        `on_exit` is called in the event loop, exactly once for each container that is running in the
        returned list or started later, as soon as it has ended.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; running containers run on."""
        ...

    async def prepare(self, module: Path, digest: str) -> Artifact:
        """Compile `module`, the file of `digest`, once for any number of callers; cached on disk.

        Raises InvalidModuleError for what cannot be run here, ProviderError if compilation failed
        otherwise (time, memory, disk).
        """
        ...

    async def start(self, spec: ContainerSpec) -> ContainerState:
        """Start a container and return when its process exists. Raises ProviderError."""
        ...

    async def kill(self, container_id: str) -> None:
        """End a container at once. Returns when it is asked to; the end itself reaches `on_exit`.

        Killing what has ended or is not known does nothing.
        """
        ...

    async def remove(self, container_id: str) -> None:
        """Forget an ended container and remove its directory (its log stays). Unknown ids: nothing."""
        ...
