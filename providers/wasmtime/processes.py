"""Watching processes that are not our children: containers that an earlier launcher or agent started.

It exists because a pid alone names nobody for long: a process is told from a later one with the same pid
by its start time. It must not know what the processes are.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import select
import signal
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

_END_SECONDS = 5.0
_SPARE = 2
_spare: list[int] = []
"""Open files of no use, given up for what must be done when there are no others: to end a process."""


def boot_id() -> str:
    """Names the time since this machine's kernel started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def stat(pid: int) -> tuple[int, int] | None:
    """Parent and start time (clock ticks since boot) of a process, proc_pid_stat(5); None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), int(fields[19])


def open_pidfd(pid: int, start_time: int) -> int | None:
    """A file descriptor of exactly this process; None if it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Looked at after the pidfd was opened: what it names cannot have changed since.
    found = stat(pid)
    if found is None or found[1] != start_time:
        os.close(pidfd)
        return None
    return pidfd


def kill(pid: int, start_time: int) -> None:
    """SIGKILL to exactly this process; nothing if it is gone. Raises OSError where no file is to be had."""
    try:
        send(pid, start_time, signal.SIGKILL)
    except OSError as error:
        if error.errno != errno.EMFILE or not _spare:
            raise
        while _spare:
            os.close(_spare.pop())
        send(pid, start_time, signal.SIGKILL)
        keep_spare_files()
    _hurry(pid)


def _hurry(pid: int) -> None:
    """Let a process that is to end, and gave way to all others, have the processor to do so.

    The privileged may do that, others not; by then it may also be gone, or the kernel weigh no sessions.
    """
    with contextlib.suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, pid) > 0:
            os.setpriority(os.PRIO_PROCESS, pid, 0)
            # No buffer, whose rest would be written when nobody expects it.
            with open(f"/proc/{pid}/autogroup", "wb", buffering=0) as group:  # noqa: PTH123
                group.write(b"0")


def send(pid: int, start_time: int, number: signal.Signals) -> None:
    """A signal to exactly this process; nothing if it is gone."""
    pidfd = open_pidfd(pid, start_time)
    if pidfd is None:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)


def end(pid: int, start_time: int) -> None:
    """SIGKILL to exactly this process, and wait until it has ended, for seconds at most. Blocks."""
    pidfd = open_pidfd(pid, start_time)
    if pidfd is None:
        return
    try:
        kill(pid, start_time)
        select.select([pidfd], [], [], _END_SECONDS)
    finally:
        os.close(pidfd)


def writers(paths: Collection[Path]) -> Iterator[tuple[int, int]]:
    """The processes, but for this one, that have one of these open to write, with start times. Blocks."""
    names = set(map(str, paths))
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        found = stat(pid)
        if pid != os.getpid() and found is not None and _writes(directory, names):
            yield pid, found[1]


def _writes(process: Path, paths: set[str]) -> bool:
    try:
        for fd in (process / "fd").iterdir():
            if str(fd.readlink()) in paths:
                flags = (process / "fdinfo" / fd.name).read_text().partition("flags:")[2].split()[0]
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    except OSError:  # it has ended, or is not ours to look at
        return False
    return False


def raise_file_limit() -> None:
    """Let this process have as many files as it may: watching takes one for each container."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_spare_files() -> None:
    """Keep as many as it takes to end a process, for when this one has no others; as far as there are any."""
    with contextlib.suppress(OSError):
        while len(_spare) < _SPARE:
            _spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


class Watches:
    """Tells of ends of processes."""

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end
        self._pidfds: dict[str, int] = {}

    def add(self, name: str, pid: int, start_time: int) -> bool:
        """Tell when this process ends; False if it has."""
        pidfd = open_pidfd(pid, start_time)
        if pidfd is None:
            return False
        self._pidfds[name] = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._ended, name)
        return True

    def has(self, name: str) -> bool:
        """Is it watched?"""
        return name in self._pidfds

    def _ended(self, name: str) -> None:
        self._remove(name)
        self._on_end(name)

    def _remove(self, name: str) -> None:
        pidfd = self._pidfds.pop(name)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)

    def close(self) -> None:
        """Watch no more."""
        for name in list(self._pidfds):
            self._remove(name)
