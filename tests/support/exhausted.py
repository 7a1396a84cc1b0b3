"""Limits of a test's own that processes have just reached: of open files, and of processes and threads.

It exists so that a node meets a machine that gives it no more, while others get what they want. It must not
know what the processes are.
"""

from __future__ import annotations

import contextlib
import resource
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def no_files(pids: Iterable[int]) -> Iterator[None]:
    """None of these can open one more."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
    for pid, (_, hard) in before.items():
        # Of our own there was one more, by which they are listed.
        taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
        free = next(number for number in range(len(taken) + 1) if number not in taken)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def processes_can_be_bounded() -> bool:
    """Whether there are cgroups that we may make."""
    return _top() is not None


@contextlib.contextmanager
def no_processes(pids: Iterable[int]) -> Iterator[None]:
    """None of these, who are root and so bound by no RLIMIT_NPROC, can make one more, nor a thread."""
    top = _top()
    assert top is not None
    group: Path = top / f"test-{uuid.uuid4().hex[:12]}"
    group.mkdir()
    try:
        for number in pids:
            (group / "cgroup.procs").write_text(str(number))
        (group / "pids.max").write_text((group / "pids.current").read_text())
        yield
    finally:
        (group / "pids.max").write_text("max")
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (top / "cgroup.procs").write_text(pid)
        group.rmdir()


def _top() -> Path | None:
    """Where there are cgroups with a number of processes: of version 1, or 2."""
    first = CGROUPS / "pids"
    if first.is_dir():
        return first
    control = CGROUPS / "cgroup.subtree_control"
    return CGROUPS if control.exists() and "pids" in control.read_text().split() else None
