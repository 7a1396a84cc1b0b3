"""`process_*`: what every exporter tells of its own process, under the names all of them use.

It exists to hold those reads. It must not know of Kubernetes.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from vkubelet.meters import Family, Sample, gauge


def process_families(root: Path = Path("/proc")) -> list[Family]:
    """This process' own. Blocks for some reads of proc(5) at `root`."""
    stat = (root / "self/stat").read_bytes().rpartition(b")")[2].split()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    virtual, resident = int(stat[20]), int(stat[21]) * resource.getpagesize()
    return [
        Family(
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            [Sample(time.process_time())],
        ),
        gauge("process_max_fds", "Maximum number of open file descriptors.", [Sample(soft)]),
        gauge(
            "process_open_fds",
            "Number of open file descriptors.",
            [Sample(len(os.listdir(root / "self/fd")))],  # noqa: PTH208  the names are all that is wanted
        ),
        gauge("process_resident_memory_bytes", "Resident memory size in bytes.", [Sample(resident)]),
        start_time_family(root),
        gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", [Sample(virtual)]),
    ]


def start_time_family(root: Path = Path("/proc")) -> Family:
    """When this process has started."""
    ticks = int((root / "self/stat").read_bytes().rpartition(b")")[2].split()[19])
    booted = next(
        int(line.split()[1]) for line in (root / "stat").read_text().splitlines() if line.startswith("btime")
    )
    started = booted + ticks / os.sysconf("SC_CLK_TCK")
    return gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        [Sample(started)],
    )
