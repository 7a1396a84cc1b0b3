"""What is written into which file of a cgroup, and where cgroups may be made: pure functions.

It exists so that limits mean the same under both versions of cgroups, by the kubelet's arithmetic, and can be
tried without a kernel. It must not touch a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from providers.base import ContainerSpec, Group

CONTROLLERS = ("cpu", "memory", "pids")

OVERHEAD = 16 * 1024 * 1024
"""Bytes that a container's processes may use beyond the limit of linear memory: the runtime's own structures,
stacks and page tables (2 MiB with a command that `exec` runs, as measured), buffers of sockets and pipes."""

_PERIOD = 100_000
_QUOTA_MIN = 1_000
_SHARES_MIN, _SHARES_PER_CPU, _SHARES_MAX = 2, 1024, 262_144
_WEIGHT_MAX = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a cgroup is to bound; None for what nothing was said of. Units are ContainerSpec's."""

    memory: int | None = None
    cpu_limit: int | None = None
    cpu_request: int | None = None

    @classmethod
    def of(cls, spec: ContainerSpec) -> Limits | None:
        """Those of a spec; None if it says nothing, and is in no group, where it must have its own share."""
        request = 0 if spec.cpu_request is None and spec.group is not None else spec.cpu_request
        limits = cls(spec.memory_limit, spec.cpu_limit, request)
        return None if limits == _NOTHING else limits


_NOTHING = Limits()


def shares(millicores: int) -> int:
    """A CPU request as shares (version 1): MilliCPUToShares of the kubelet."""
    return min(max(_SHARES_MIN, millicores * _SHARES_PER_CPU // 1000), _SHARES_MAX)


def weight(millicores: int) -> int:
    """A CPU request as a weight (version 2): getCPUWeight of the kubelet."""
    found = shares(millicores)
    if found >= _SHARES_MAX:
        return _WEIGHT_MAX
    return 1 + (found - _SHARES_MIN) * (_WEIGHT_MAX - 1) // (_SHARES_MAX - _SHARES_MIN)


def quota(millicores: int) -> int:
    """A CPU limit as microseconds of processor time in each period: MilliCPUToQuota of the kubelet."""
    return max(_QUOTA_MIN, millicores * _PERIOD // 1000)


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """A value for a file of a cgroup. What is optional may be missing in the kernel."""

    file: str
    value: str
    optional: bool = False


def settings(
    version: int, controller: str, limits: Limits, *, overhead: int = OVERHEAD
) -> tuple[Setting, ...]:
    """What one controller is told of a container, in this order."""
    if controller == "pids":
        return ()  # only groups have a limit of them
    if controller == "memory":
        bound = None if limits.memory is None else str(limits.memory + overhead)
        if version == 1:
            return (Setting("memory.limit_in_bytes", bound or "-1"),)
        return (
            Setting("memory.max", bound or "max"),
            # Not even in part: a guest without its `exec`, or the other way round, tells nobody why.
            Setting("memory.oom.group", "1", optional=True),
            Setting("memory.swap.max", "0" if bound else "max", optional=True),
        )
    told = []
    if limits.cpu_request is not None:
        if version == 1:
            told.append(Setting("cpu.shares", str(shares(limits.cpu_request))))
        else:
            told.append(Setting("cpu.weight", str(weight(limits.cpu_request))))
    if version == 1:
        time = "-1" if limits.cpu_limit is None else str(quota(limits.cpu_limit))
        return (*told, Setting("cpu.cfs_period_us", str(_PERIOD)), Setting("cpu.cfs_quota_us", time))
    time = "max" if limits.cpu_limit is None else str(quota(limits.cpu_limit))
    return (*told, Setting("cpu.max", f"{time} {_PERIOD}"))


def group_settings(version: int, controller: str, group: Group) -> tuple[Setting, ...]:
    """What one controller is told of a group, in this order."""
    if controller == "pids":
        return (Setting("pids.max", "max" if group.process_limit is None else str(group.process_limit)),)
    limits = Limits(group_memory(group), group.cpu_limit, group.cpu_request)
    told = settings(version, controller, limits, overhead=0)
    # Of a group that lacks memory one process has to go, not all of them.
    return told[:1] if controller == "memory" else told


def group_memory(group: Group) -> int | None:
    """Bytes that all processes of a group may use, the runtime's own included."""
    return None if group.memory_limit is None else group.memory_limit + group.runtimes * OVERHEAD


@dataclasses.dataclass(frozen=True, slots=True)
class Mounted:
    """A hierarchy of cgroups. `own` is where this process is, None where that cannot be seen.

    Version 1 has one for some controllers each; version 2 is one for those that version 1 does not have.
    """

    version: int
    controllers: frozenset[str]
    top: Path
    own: Path | None


def mounted(mountinfo: str, membership: str) -> list[Mounted]:
    """The hierarchies that matter: proc_pid_mountinfo(5) and cgroups(7), /proc/self/cgroup."""
    places = dict(_memberships(membership))
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in {"cgroup", "cgroup2"}:
            continue
        names = frozenset(kind[2].split(",")) & frozenset(CONTROLLERS)
        if kind[0] == "cgroup" and not names:
            continue
        place = places.get("" if kind[0] == "cgroup2" else next(iter(names)))
        top = Path(_unescape(fields[4]))
        found.append(
            Mounted(
                version=2 if kind[0] == "cgroup2" else 1,
                controllers=names if kind[0] == "cgroup" else frozenset(),
                top=top,
                own=_own(top, _unescape(fields[3]), place),
            )
        )
    return found


def _memberships(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            yield "", path
        for controller in controllers.split(",") if controllers else ():
            yield controller, path


def _own(top: Path, mount_root: str, place: str | None) -> Path | None:
    """Where a path within the hierarchy is among files, if what is mounted holds it."""
    if place is None:
        return None
    try:
        return top / PurePosixPath(place).relative_to(mount_root)
    except ValueError:
        return None


def _unescape(field: str) -> str:
    return field.encode().decode("unicode_escape").encode("latin-1").decode() if "\\" in field else field


def oom_kills(text: str) -> int:
    """How often the kernel has killed: of memory.events (version 2) or memory.oom_control (version 1)."""
    counts: Mapping[str, Sequence[str]] = {
        words[0]: words[1:] for line in text.splitlines() if (words := line.split())
    }
    found = counts.get("oom_kill", ())
    return int(found[0]) if len(found) == 1 and found[0].isdigit() else 0
