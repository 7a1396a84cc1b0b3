"""Where a node's cgroups are made, and the few calls that making them takes.

It exists because there are two versions, one of which has a hierarchy for each controller, and because the
kernel does not let everybody make cgroups everywhere. It must not know what the cgroups are for. Everything
here blocks, though not for long.

They are made in the first place where the kernel lets us, of those that are delegated to this process and
those that only root may use; `missing` tells why there is none for a controller. On version 2 a cgroup that
has processes of its own can give no controllers to others, so the node must not run in the one that is
delegated to it, but in one inside (systemd: Delegate=yes and DelegateSubgroup=).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

from providers.wasmtime import cgroupfs
from providers.wasmtime.cgroupfs import CONTROLLERS, Limits, Mounted
from providers.wasmtime.files import CorruptFileError

_DELEGATED = ("user.delegate", "trusted.delegate")
"""Extended attributes by which systemd marks what it leaves to others."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where containers' cgroups are made, in the directory `base`, with these controllers."""

    version: int
    controllers: tuple[str, ...]
    base: Path

    def joining(self, name: str) -> Path:
        """The file by which a process with one thread joins: what is said to it is `0`."""
        return self.base / name / ("tasks" if self.version == 1 else "cgroup.procs")


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
                failed.append(reason(error))
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


def reason(error: OSError) -> str:
    """What cannot be done, and why, for people."""
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
        make(base)
    else:
        there = (candidate / "cgroup.controllers").read_text().split()
        controllers = tuple(controller for controller in wanted if controller in there)
        if not controllers:
            return None
        make(base)
        try:
            for directory in (candidate, base):
                enable(directory, controllers)
        except OSError:
            remove(base)
            raise
    if "cpu" in controllers:
        # As heavy as all processors, among its siblings: what the kubelet gives to all pods.
        request = Limits(cpu_request=1000 * (os.cpu_count() or 1))
        tell(base, cgroupfs.settings(mount.version, "cpu", request)[:1])
    return Hierarchy(mount.version, controllers, base)


def make(path: Path) -> None:
    """Make a cgroup, unless it is there. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        path.mkdir()


def remove(path: Path) -> None:
    """Remove a cgroup. Raises OSError: EBUSY if something is in it."""
    path.rmdir()


def enable(directory: Path, controllers: tuple[str, ...]) -> None:
    """Let the cgroups in `directory` have them. Raises OSError: EBUSY if it has processes of its own."""
    enabled = (directory / "cgroup.subtree_control").read_text().split()
    missing = [controller for controller in controllers if controller not in enabled]
    if missing:
        write(directory / "cgroup.subtree_control", " ".join(f"+{controller}" for controller in missing))


def tell(directory: Path, told: tuple[cgroupfs.Setting, ...]) -> None:
    """Write into a cgroup's files, but for those that an older kernel may lack. Raises OSError."""
    for setting in told:
        try:
            write(directory / setting.file, setting.value)
        except FileNotFoundError:
            if not setting.optional:
                raise


def write(path: Path, value: str) -> None:
    """Write into one file. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_TRUNC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)
