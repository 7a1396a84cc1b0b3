"""What one process uses, as its kernel tells.

It exists so that the few reads that a measurement takes, and their order, are in one place: a process that
ends between two of them, or whose pid is taken by another, must not be measured as somebody else. It must
not know what the process is.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time

_ROLLUP = re.compile(
    rb"^Pss: +(\d+) kB$.*^Pss_Anon: +(\d+) kB$.*^Pss_Shmem: +(\d+) kB$", re.MULTILINE | re.DOTALL
)
_READ_BYTES = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What a process uses now, and has used since its start, all threads together.

    `cpu` is in nanoseconds, user and system. `memory` is its proportional share, in bytes, of all that it has
    mapped; `anonymous` and `shared` are the parts of it that no file backs. Page faults are those
    that took no disk and those that did. `start_time` is in clock ticks since boot.
    """

    cpu: int
    memory: int
    anonymous: int
    shared: int
    page_faults: int
    major_page_faults: int
    threads: int
    start_time: int


def process_usage(pid: int, start_time: int | None = None) -> ProcessUsage | None:
    """The usage of process `pid`; None if it has ended, or did not start at `start_time`.

    Blocks for some fifty microseconds. Reads proc_pid_smaps(5), proc_pid_stat(5) and the process' own clock
    of clock_getcpuclockid(3), which unlike stat counts in nanoseconds, and ended threads too.
    """
    try:
        directory = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        rollup = _ROLLUP.search(_read(directory, "smaps_rollup"))
        cpu = _cpu_time(pid)
        # Last: as this very process is still there, the clock that was read by pid was its own.
        stat = _read(directory, "stat").rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    finally:
        os.close(directory)
    if rollup is None or cpu is None or (start_time is not None and int(stat[19]) != start_time):
        return None
    memory, anonymous, shared = (int(kilobytes) * 1024 for kilobytes in rollup.groups())
    return ProcessUsage(
        cpu=cpu,
        memory=memory,
        anonymous=anonymous,
        shared=shared,
        page_faults=int(stat[7]),
        major_page_faults=int(stat[9]),
        threads=int(stat[17]),
        start_time=int(stat[19]),
    )


def _cpu_time(pid: int) -> int | None:
    # What clock_getcpuclockid(3) makes of a pid: the kernel's CPUCLOCK_SCHED (2) of a whole process.
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)
    except OSError:
        return None


def _read(directory: int, name: str) -> bytes:
    file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(file, _READ_BYTES)
    finally:
        os.close(file)
