"""The cgroups of a node's containers: one for each that has limits, made with it and removed with it, and one
for all others (on version 2), which get the processor time that nobody else wants.

It exists so that the kernel bounds what the sandbox cannot: processor time, the memory of all processes
together, their number. It must not know what a container is beyond its id. Everything here blocks, though not
for long.

They are made in the first place where the kernel lets us, of those that are delegated to this process and
those that only root may use; `missing` tells why there is none for a controller. On version 2 a cgroup that
has processes of its own can give no controllers to others, so the node must not run in the one that is
delegated to it, but in one inside (systemd: Delegate=yes and DelegateSubgroup=).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from providers.base import ProviderError
from providers.wasmtime import cgroupfs
from providers.wasmtime.cgroupfs import CONTROLLERS, Limits, Mounted
from providers.wasmtime.files import CorruptFileError

_log = logging.getLogger(__name__)

SHARED = "unbounded"
"""The name of the cgroup of all containers without limits."""

_DELEGATED = ("user.delegate", "trusted.delegate")
"""Extended attributes by which systemd marks what it leaves to others."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where containers' cgroups are made, in the directory `base`, with these controllers."""

    version: int
    controllers: tuple[str, ...]
    base: Path

    def joining(self, container_id: str) -> Path:
        """The file by which a process with one thread joins: what is said to it is `0`."""
        return self.base / container_id / ("tasks" if self.version == 1 else "cgroup.procs")


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """Where cgroups can be made, and for people why some cannot."""

    hierarchies: tuple[Hierarchy, ...] = ()
    missing: str = ""

    def encode(self) -> bytes:
        """For an agent that comes later, and may run in another place itself."""
        document = [[each.version, list(each.controllers), str(each.base)] for each in self.hierarchies]
        return json.dumps({"hierarchies": document, "missing": self.missing}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Found:
        """Raises CorruptFileError."""
        try:
            document = json.loads(data)
            return cls(
                tuple(
                    Hierarchy(int(version), tuple(map(str, controllers)), Path(base))
                    for version, controllers, base in document["hierarchies"]
                ),
                str(document["missing"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(f"cgroups: {error!r}") from error


def find(name: str, proc: Path = Path("/proc/self")) -> Found:
    """Where cgroups can be made now, below one called `name`."""
    found: list[Hierarchy] = []
    reasons: list[str] = []
    try:
        mounts = cgroupfs.mounted((proc / "mountinfo").read_text(), (proc / "cgroup").read_text())
    except OSError as error:
        return Found(missing=f"no cgroups: {error}")
    for mount in sorted(mounts, key=lambda mount: mount.version):
        taken = {controller for hierarchy in found for controller in hierarchy.controllers}
        wanted = [controller for controller in CONTROLLERS if controller not in taken]
        failed = []
        for candidate in _candidates(mount):
            try:
                hierarchy = _take(mount, candidate, name, wanted)
            except OSError as error:
                failed.append(_reason(error))
                continue
            if hierarchy is not None:
                found.append(hierarchy)
                break
        else:
            reasons += failed
    served = {controller for hierarchy in found for controller in hierarchy.controllers}
    lacking = [controller for controller in CONTROLLERS if controller not in served]
    if not lacking:
        return Found(tuple(found))
    why = "; ".join(reasons) or "neither mounted nor delegated"
    return Found(tuple(found), f"no cgroup with {' and '.join(lacking)} ({why})")


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"


def _candidates(mount: Mounted) -> Iterator[Path]:
    own = mount.own
    if own is not None and mount.version == 2 and own != mount.top and _is_delegated(own.parent):
        yield own.parent
    if own is not None:
        yield own
    if own != mount.top:
        yield mount.top


def _is_delegated(path: Path) -> bool:
    if os.geteuid() != 0:
        return os.access(path, os.W_OK)
    for attribute in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(path, attribute) == b"1":
                return True
    return False


def _take(mount: Mounted, candidate: Path, name: str, wanted: list[str]) -> Hierarchy | None:
    """Make ours in `candidate`. None if it has no controller that is wanted. Raises OSError."""
    base = candidate / name
    if mount.version == 1:
        controllers = tuple(controller for controller in wanted if controller in mount.controllers)
        if not controllers:
            return None
        _make(base)
    else:
        there = (candidate / "cgroup.controllers").read_text().split()
        controllers = tuple(controller for controller in wanted if controller in there)
        if not controllers:
            return None
        _make(base)
        try:
            for directory in (candidate, base):
                _enable(directory, controllers)
        except OSError:
            _remove(base)
            raise
    if "cpu" in controllers:
        # As heavy as all processors, among its siblings: what the kubelet gives to all pods.
        request = Limits(None, None, 1000 * (os.cpu_count() or 1), None)
        _tell(base, cgroupfs.settings(mount.version, "cpu", request)[:1])
    return Hierarchy(mount.version, controllers, base)


def _make(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir()


def _remove(path: Path) -> None:
    path.rmdir()


def _enable(directory: Path, controllers: tuple[str, ...]) -> None:
    """Let the cgroups in `directory` have them. Raises OSError: EBUSY if it has processes of its own."""
    enabled = (directory / "cgroup.subtree_control").read_text().split()
    missing = [controller for controller in controllers if controller not in enabled]
    if missing:
        _write(directory / "cgroup.subtree_control", " ".join(f"+{controller}" for controller in missing))


def _tell(directory: Path, told: tuple[cgroupfs.Setting, ...]) -> None:
    for setting in told:
        try:
            _write(directory / setting.file, setting.value)
        except FileNotFoundError:
            if not setting.optional:
                raise


def _write(path: Path, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_TRUNC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)


class Cgroups:
    """The cgroups of one node. Containers' ids are their names. Its methods may be called by any thread."""

    def __init__(self, hierarchies: tuple[Hierarchy, ...] = ()) -> None:
        self._hierarchies = hierarchies
        self._lingering: set[str] = set()

    def __bool__(self) -> bool:
        """Are there any?"""
        return bool(self._hierarchies)

    @property
    def controllers(self) -> frozenset[str]:
        """What can be bounded."""
        return frozenset(name for hierarchy in self._hierarchies for name in hierarchy.controllers)

    def open(self) -> None:
        """Make the one that containers without limits share. Raises ProviderError."""
        least = Limits(None, None, 0, None)
        try:
            for hierarchy in self._sharing():
                _make(hierarchy.base / SHARED)
                _tell(hierarchy.base / SHARED, cgroupfs.settings(hierarchy.version, "cpu", least)[:1])
        except OSError as error:
            raise ProviderError(f"making a cgroup: {_reason(error)}") from error

    def _sharing(self) -> list[Hierarchy]:
        """On version 1, where joining costs each of them more than its start may, they stay with the node."""
        return [each for each in self._hierarchies if each.version == 2 and "cpu" in each.controllers]

    def joining(self, container_id: str, limits: Limits | None) -> tuple[tuple[Path, ...], Path | None]:
        """The files by which a process joins its cgroups, and what it can be born in instead (clone(2))."""
        hierarchies = self._hierarchies if limits is not None else self._sharing()
        name = container_id if limits is not None else SHARED
        born_in = [hierarchy.base / name for hierarchy in hierarchies if hierarchy.version == 2]
        return tuple(hierarchy.joining(name) for hierarchy in hierarchies), born_in[0] if born_in else None

    def create(self, container_id: str, limits: Limits) -> None:
        """Make a container's. Raises ProviderError, and then there is none."""
        try:
            for hierarchy in self._hierarchies:
                _make(hierarchy.base / container_id)
                self._limit(hierarchy, container_id, limits)
        except OSError as error:
            self.remove(container_id)
            raise ProviderError(f"making the container's cgroup: {_reason(error)}") from error

    def update(self, container_id: str, limits: Limits, pid: int) -> None:
        """Bound a running container otherwise; `pid` is for one that has none yet. Raises ProviderError."""
        try:
            for hierarchy in self._hierarchies:
                directory = hierarchy.base / container_id
                missing = not directory.exists()
                if missing:
                    _make(directory)
                elif "memory" in hierarchy.controllers:
                    _check_memory(hierarchy.version, directory, limits)
                self._limit(hierarchy, container_id, limits)
                if missing:
                    _write(directory / "cgroup.procs", str(pid))
        except OSError as error:
            raise ProviderError(f"changing the container's cgroup: {_reason(error)}") from error

    def _limit(self, hierarchy: Hierarchy, container_id: str, limits: Limits) -> None:
        for controller in hierarchy.controllers:
            told = cgroupfs.settings(hierarchy.version, controller, limits)
            _tell(hierarchy.base / container_id, told)

    def oom_kills(self, container_id: str) -> int:
        """How many of its processes the kernel has killed since it used more than its memory."""
        for hierarchy in self._hierarchies:
            if "memory" in hierarchy.controllers:
                file = "memory.oom_control" if hierarchy.version == 1 else "memory.events"
                try:
                    return cgroupfs.oom_kills((hierarchy.base / container_id / file).read_text())
                except OSError:
                    return 0
        return 0

    def remove(self, container_id: str) -> None:
        """Remove a container's; one that has processes still is tried again when the next one is removed."""
        for name in (container_id, *self._lingering):
            left = False
            for hierarchy in self._hierarchies:
                try:
                    _remove(hierarchy.base / name)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        _log.error("the cgroup of container %s stays: %s", name, error)
                    left = True
            if left:
                self._lingering.add(name)
            else:
                self._lingering.discard(name)

    def sweep(self, known: Collection[str]) -> None:
        """Remove those of containers that are not known, which an agent that was killed left."""
        for hierarchy in self._hierarchies:
            for directory in list(hierarchy.base.glob("*/")):
                if directory.name not in known and directory.name != SHARED:
                    self.remove(directory.name)

    def close(self) -> None:
        """Leave nothing, unless containers run on."""
        for hierarchy in self._hierarchies:
            for directory in (hierarchy.base / SHARED, hierarchy.base):
                with contextlib.suppress(OSError):
                    _remove(directory)


def _check_memory(version: int, directory: Path, limits: Limits) -> None:
    """Refuse a bound below what is in use: the kernel of version 2 would kill. Raises OSError."""
    if limits.memory is None or version == 1:
        return
    used = int((directory / "memory.current").read_text())
    if used > limits.memory + cgroupfs.OVERHEAD:
        raise OSError(errno.EBUSY, f"{used} bytes are in use", str(directory / "memory.max"))
