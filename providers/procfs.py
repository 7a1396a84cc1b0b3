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

MEMORY_SECONDS = 300.0
"""How long what was read of a process' memory may hold. To read it, the kernel walks all of its pages: ten
times the cost of all the rest. While no page came and none went, it changes only by what others share."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What a process uses now, and has used since its start, all threads together.

    `cpu` is in nanoseconds, user and system. `memory` is its proportional share, in bytes, of all that it has
    mapped; `anonymous` and `shared` are the parts of it that no file backs. Page faults are those
    that took no disk and those that did. `start_time` is in clock ticks since boot. `resident` is how many
    pages it has, and `memory_read_at` when its memory was read, on the monotonic clock.
    """

    cpu: int
    memory: int
    anonymous: int
    shared: int
    page_faults: int
    major_page_faults: int
    threads: int
    start_time: int
    resident: int
    memory_read_at: float


def process_usage(
    pid: int, start_time: int | None = None, known: ProcessUsage | None = None
) -> ProcessUsage | None:
    """The usage of process `pid`; None if it has ended, or did not start at `start_time`.

    Blocks for tens of microseconds, or some two hundred. Reads proc_pid_stat(5), the process' own clock of
    clock_getcpuclockid(3), which unlike stat counts in nanoseconds, and proc_pid_smaps(5), unless the memory
    of `known`, found earlier of the same process, still holds.
    """
    try:
        directory = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        cpu = _cpu_time(pid)
        # After the clock, which is asked for by pid: as this very process is still there, it was its own.
        stat = _read(directory, "stat").rpartition(b")")[2].split()
        found = ProcessUsage(
            cpu=cpu,
            memory=0,
            anonymous=0,
            shared=0,
            page_faults=int(stat[7]),
            major_page_faults=int(stat[9]),
            threads=int(stat[17]),
            start_time=int(stat[19]),
            resident=int(stat[21]),
            memory_read_at=time.monotonic(),
        )
        if start_time not in (None, found.start_time) or stat[0] == b"Z":
            return None
        if known is not None and _same_memory(known, found):
            return dataclasses.replace(
                found,
                memory=known.memory,
                anonymous=known.anonymous,
                shared=known.shared,
                memory_read_at=known.memory_read_at,
            )
        rollup = _ROLLUP.search(_read(directory, "smaps_rollup"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    finally:
        os.close(directory)
    if rollup is None:
        return None
    memory, anonymous, shared = (int(kilobytes) * 1024 for kilobytes in rollup.groups())
    return dataclasses.replace(found, memory=memory, anonymous=anonymous, shared=shared)


def _same_memory(known: ProcessUsage, found: ProcessUsage) -> bool:
    return (
        known.start_time == found.start_time
        and known.resident == found.resident
        and known.page_faults == found.page_faults
        and known.major_page_faults == found.major_page_faults
        and found.memory_read_at - known.memory_read_at < MEMORY_SECONDS
    )


def _cpu_time(pid: int) -> int:
    """Of all threads, those that have ended included. Raises ProcessLookupError."""
    # What clock_getcpuclockid(3) makes of a pid: the kernel's CPUCLOCK_SCHED (2) of a whole process.
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)
    except OSError as error:
        raise ProcessLookupError(pid) from error


def _read(directory: int, name: str) -> bytes:
    file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(file, _READ_BYTES)
    finally:
        os.close(file)
