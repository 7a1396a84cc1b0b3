"""The provider interface: all that the agent may ask of whatever runs its containers.

It exists so that pod semantics (restart policy, back-off, status) never see a process, and so that a
runtime never sees a pod. It must not know Kubernetes: labels are opaque text that a provider stores with
a container and gives back, which is how a new agent recognises what an old one started.

A container is started once and ends once. A restart is a new container with a new id. An instance that `run`
runs beside the containers, for `kubectl exec`, has a caller and ends with it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol


class ProviderError(Exception):
    """A container could not be prepared, started or removed; the text says why, for the pod's owner."""


class InvalidModuleError(ProviderError):
    """The bytes are no WebAssembly, or a module this provider cannot run (imports, no entry point)."""


class DamagedModuleError(ProviderError):
    """The module's file is not the content that its digest names: a disk has changed it."""


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
    """A host directory that the guest sees at an absolute guest path.

    With `beneath`, a relative path, it is that directory in `host`, opened when the container starts without
    being led out of `host`: for directories in which a guest makes links.
    """

    host: Path
    guest: str
    read_only: bool = False
    beneath: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class FileMount:
    """A single host file that the guest sees at an absolute guest path.

    WASI can give a guest directories only, so the file is made to appear in the container's root directory
    when the container starts: as a hard link to the host's file where it is writable and on the same file
    system, else as a copy, which does not follow later changes of the host's file (as Kubernetes' `subPath`
    mounts do not). `beneath` is as for a `Preopen`.
    """

    host: Path
    guest: str
    read_only: bool = False
    beneath: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Whom a container's process runs as: user, primary group and all supplementary groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Containers that may use so much together, as far as this host can enforce it.

    `name` has letters, digits, `-` and `_`. `memory_limit` is in bytes of all that their processes use, the
    runtime's own included, but for `runtimes` of them, for each of which there is as much room beside as for
    a container that has a limit of its own. `process_limit` is in processes and threads, the others are as
    those of ContainerSpec. None is for no limit.
    """

    name: str
    memory_limit: int | None = None
    cpu_limit: int | None = None
    cpu_request: int | None = None
    runtimes: int = 0
    process_limit: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerSpec:
    """All that a provider needs to start one container.

    `id` is 64 lower-case hex digits. The guest's root directory `/` is made by the provider, empty and
    writable, and dies with the container. `working_dir` reaches the guest as PWD: WASI has no other
    notion of it. `memory_limit` is in bytes of linear memory, None for no limit of our own.
    The log file is written in the CRI format and rotated when it exceeds `log_max_bytes`; at most
    `log_max_files` files are kept, the current one included. It is None for what `run` runs, and only there.

    `root` is a directory that the guest has as `/` instead of one of its own: that of another container,
    for an instance inside it. `tty` gives the guest a terminal as its standard files. `stdin` keeps its
    standard input open for those who attach, `stdin_once` until the first of them has gone; both mean what
    they mean in a pod's spec, and nothing to `run`. With `attended` what the terminal shows is given to the
    first who attaches, from its beginning, and logged then, or after ten seconds in which nobody does.
    `network` lets the guest use the host's network.

    `template` is a directory whose files the guest finds in a root directory of its own: as copies, or, with
    `read_only_root`, the same files where the file systems allow that. What the container is given at a place
    of `files` or `preopens` is there instead. It is used when the container starts, and not known afterwards.

    `read_only_root` makes `/` read-only; `preopens` keep their own mode, and nothing in `files`, which appear
    in `/`, can be written then. `identity` is whom the process becomes before the guest's first instruction,
    None for whom the node runs as; the directory of the log becomes that user's, who rotates the log, so it
    must be this container's alone. `stop_file` gives the guest a read-only directory `/.vkubelet`, where
    `Provider.stop` makes the file `stop` appear. `cpu_limit` and `cpu_request` are in thousandths of a
    processor; what of them and of `memory_limit` this host can
    enforce, `Provider.capabilities` tells, and what it cannot is not enforced. `group` is what else it must
    share. A guest with limits sees those that are enforced where Linux has them, in /sys/fs/cgroup.
    `oom_score_adj`, from -1000 to 1000, is how ready the kernel is to kill it when the machine has no memory
    left (proc_pid_oom_score_adj(5)), as far as the node may say so.

    With `runs`, from 2 to 1000, what `run` runs has a process that stays: the guest is begun anew, in an
    instance that knows nothing of those before, each time that it is asked for, until it was so often or
    nobody can ask any more. The caller's end of `Streams.stdin`, a SOCK_SEQPACKET socket, takes a packet
    of a byte for each, and gives one when the guest has ended and all that it wrote is in its other
    files: a byte, its exit code, or a byte 128 and a text that says why it could not be run. Where there
    is none, the process has ended. The guest has no input.
    """

    id: str
    labels: Mapping[str, str]
    artifact: Artifact
    # Both may hold secrets.
    args: tuple[str, ...] = dataclasses.field(repr=False)
    env: tuple[tuple[str, str], ...] = dataclasses.field(repr=False)
    log_path: Path | None
    working_dir: str = "/"
    preopens: tuple[Preopen, ...] = ()
    memory_limit: int | None = None
    log_max_bytes: int = 10 * 1024 * 1024
    log_max_files: int = 5
    root: Path | None = None
    template: Path | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    attended: bool = False
    network: bool = False
    read_only_root: bool = False
    files: tuple[FileMount, ...] = ()
    identity: Identity | None = None
    stop_file: bool = False
    cpu_limit: int | None = None
    cpu_request: int | None = None
    group: Group | None = None
    oom_score_adj: int | None = None
    runs: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Capabilities:
    """What this host lets the provider enforce, known once the provider is open.

    Linear memory is bounded by `ContainerSpec.memory_limit` in any case. `missing` says, for people, why what
    is false is false; it is empty where nothing is.
    """

    identities: bool  # a container may have another identity than the node's own
    memory: bool  # all memory of a container's processes together is bounded, not linear memory alone
    cpu_limit: bool
    cpu_request: bool  # as a weight, when processors are contended for
    processes: bool
    missing: str
    # The parts of the wall around a container's process: each with why this host does not allow it, if so.
    sandbox: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Streams:
    """Open files of the caller that become an instance's standard files.

    The caller closes its own copies of them when `run` has returned, or as soon as it was told of the start.
    With `ContainerSpec.tty` all three are the terminal's own side (the slave), and the instance leads its
    session.
    """

    stdin: int
    stdout: int
    stderr: int


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


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What a container's processes use now, and have used. Bytes, but for counts and nanoseconds.

    They are its own and those of the instances that `run` runs in its root directory. `cpu` is their
    processor time since the start. `memory` is their proportional share of all that is mapped, `working_set`
    the part of it that cannot be taken back under pressure (what no file backs), `rss` its anonymous part:
    Kubernetes' notion, which excludes mapped files. `disk` and `inodes` are those of the container's own root
    directory, without what a template has given, about a minute old at most, and None until it has been
    looked at.
    """

    cpu: int
    memory: int
    working_set: int
    rss: int
    page_faults: int
    major_page_faults: int
    processes: int
    threads: int
    disk: int | None
    inodes: int | None


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

    async def discard(self, digest: str) -> None:
        """Remove what was compiled of the module of `digest`, which nothing runs. Raises ProviderError."""
        ...

    async def start(self, spec: ContainerSpec, go: asyncio.Event | None = None) -> ContainerState:
        """Start a container and return when its process exists. Raises ProviderError.

        All else that a container has is made before `go` is set, which is when its process may be: until then
        what it mounts may lack files, and cancelled, it leaves nothing.
        """
        ...

    async def run(
        self, spec: ContainerSpec, streams: Streams, on_start: Callable[[int], None] | None = None
    ) -> Exit:
        """Run an instance that belongs to its caller, and return its end. `on_start` gets its process' pid.

        It is no container: it is in no list, `on_exit` hears nothing of it, and it leaves nothing behind.
        Cancelled, it is killed and reaped first; and it does not outlive the agent. Raises ProviderError.
        """
        ...

    async def attach(self, container_id: str) -> socket.socket:
        """A connection to a running container that was started with `stdin` or `tty`. Raises ProviderError.

        It is a non-blocking SOCK_SEQPACKET socket. What the container writes comes as packets of at most
        32 KiB: a byte 1 (standard output) or 2 (standard error), then the data. To it go packets of a byte 0
        and data for its standard input; of a byte 3 and two 16-bit numbers, rows and columns, in network
        order, for a terminal's size; of a byte 4 alone: no more input comes from here; or of a byte 5 alone:
        none ever does, so that `stdin_once` does not end with this peer. The connection's end is the
        container's; it may be reset where input was left unread, and what was sent before can still be read.
        A peer that takes nothing for ten seconds is let go of.
        """
        ...

    def spec(self, container_id: str) -> ContainerSpec:
        """What a container, started here or by an earlier agent, was started with. Raises ProviderError."""
        ...

    def root(self, container_id: str) -> Path:
        """The directory that a container started here has as `/`, unless its spec named another."""
        ...

    async def usage(self, container_ids: Iterable[str]) -> dict[str, Usage]:
        """What these containers use; those that do not run, or are not known, are left out."""
        ...

    async def overhead(self) -> Usage | None:
        """What the provider's own processes use, which serve all containers; None if it has none."""
        ...

    async def kill(self, container_id: str) -> None:
        """End a container at once. Returns when it is asked to; the end itself reaches `on_exit`.

        Killing what has ended or is not known does nothing.
        """
        ...

    async def stop(self, container_id: str, grace_seconds: float) -> None:
        """Ask a container to end, and end it when it has not within the grace; the end reaches `on_exit`.

        A guest gets no signal. One that was started with `stop_file` sees the file `/.vkubelet/stop` appear;
        one with `stdin` reads the end of its input. A guest that has neither could never know: it is killed
        at once. Returns when it was asked. Asked again, the sooner end holds. Stopping what has ended or is
        not known does nothing.
        """
        ...

    async def update(
        self,
        container_id: str,
        *,
        memory_limit: int | None,
        cpu_limit: int | None,
        cpu_request: int | None,
    ) -> None:
        """Change the limits of a running container, all of them, at once and for its later instances too.

        Raises ProviderError, also where a limit cannot be changed without a restart.
        """
        ...

    async def update_group(self, group: Group) -> None:
        """Change what the containers of a group may use together, all of it.

        A group of which nothing runs is not there, and not made. Raises ProviderError.
        """
        ...

    def capabilities(self) -> Capabilities:
        """What this host can enforce."""
        ...

    async def remove(self, container_id: str) -> None:
        """Forget an ended container and remove its directory (its log stays). Unknown ids: nothing.

        Cancelled, it is done nevertheless.
        """
        ...
