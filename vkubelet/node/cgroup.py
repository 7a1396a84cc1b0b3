"""The limits that the agent's own control group sets on everything it starts.

It exists because an agent inside a container or a systemd slice has less than the machine: what it offers to
the scheduler must be what its containers can use. It reads both versions of the interface, and every group
up to the root, since the smallest limit counts. It must not know nodes or pods.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_NO_LIMIT = 1 << 60
"""Version 1 writes "no limit" as a number that is just below 2^63, rounded to a page."""


@dataclass(frozen=True)
class Limits:
    """The tightest limits; None where there is none. Memory in bytes, cores in thousandths."""

    memory: int | None = None
    memory_used: int | None = None
    """What of `memory` is in use and cannot be dropped at once: the usage without inactive file pages."""
    memory_charged: int | None = None
    """All that counts towards `memory`, caches included."""
    memory_anonymous: int | None = None
    """What of it no file backs."""
    millicores: int | None = None
    processes: int | None = None


def read(root: Path = Path("/")) -> Limits:
    """The limits on this process; `root` is another file system's root in tests."""
    unified: PurePosixPath | None = None
    legacy: dict[str, PurePosixPath] = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers:
            legacy |= dict.fromkeys(controllers.split(","), PurePosixPath(path))
        else:
            unified = PurePosixPath(path)
    base = root / "sys/fs/cgroup"
    if (base / "cgroup.controllers").exists() and unified is not None:
        groups = list(_groups(base, unified))
        return _limits(groups, groups, groups)
    return _limits(
        list(_groups(base / "memory", legacy.get("memory"))),
        list(_groups(base / "cpu", legacy.get("cpu"))),
        list(_groups(base / "pids", legacy.get("pids"))),
    )


def _groups(base: Path, path: PurePosixPath | None) -> Iterator[Path]:
    """The process' own group and those above it, as far as they are visible from here."""
    for relative in (path, *path.parents) if path is not None else ():
        directory = base / relative.relative_to("/") if relative.is_absolute() else base / relative
        if directory.is_dir():
            yield directory


def _limits(memory: list[Path], cpu: list[Path], pids: list[Path]) -> Limits:
    limits = [
        (limit, group)
        for group in memory
        if (limit := _number(group, "memory.max", "memory.limit_in_bytes")) is not None
    ]
    smallest, group = min(limits, default=(None, None), key=lambda pair: pair[0])
    quotas = [quota for group in cpu if (quota := _millicores(group)) is not None]
    processes = [count for group in pids if (count := _number(group, "pids.max")) is not None]
    return Limits(
        memory=smallest,
        memory_used=_used(group) if group is not None else None,
        memory_charged=_charged(group) if group is not None else None,
        memory_anonymous=_statistic(group, "anon", "total_rss") if group is not None else None,
        millicores=min(quotas, default=None),
        processes=min(processes, default=None),
    )


def _used(group: Path) -> int:
    return max(_charged(group) - (_statistic(group, "inactive_file", "total_inactive_file") or 0), 0)


def _charged(group: Path) -> int:
    return _number(group, "memory.current", "memory.usage_in_bytes") or 0


def _statistic(group: Path, *keys: str) -> int | None:
    """The first of these lines of memory.stat that is there."""
    for line in _text(group / "memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key in keys:
            return int(value)
    return None


def _millicores(group: Path) -> int | None:
    quota, _, period = _text(group / "cpu.max").partition(" ")
    if not quota:
        quota = _text(group / "cpu.cfs_quota_us")
        period = _text(group / "cpu.cfs_period_us")
    if not quota.isdecimal() or not period.isdecimal():
        return None  # "max", or -1 in version 1
    return int(quota) * 1000 // int(period)


def _number(group: Path, *names: str) -> int | None:
    for name in names:
        text = _text(group / name)
        if text.isdecimal():
            return int(text) if int(text) < _NO_LIMIT else None
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # a controller that is not there sets no limit
