"""What the machine uses, read at the moment of the question.

It exists beside `facts`, which tells what there is and what is left: usage is what statistics and metrics
show, and must agree with what the node's capacity and its pressure conditions say. It must not know who asks.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from vkubelet.config import Config
from vkubelet.node import cgroup, facts
from vkubelet.pods.machine import FileSystemUsage, MachineUsage


def read(config: Config, capacity: facts.Resources, root: Path = Path("/")) -> MachineUsage:
    """Look at the machine; `capacity` is what the node reports, `root` another file system's root in tests.

    Blocks for the time of a few reads: call it in a thread. Raises OSError.
    """
    limits = cgroup.read(root)
    left = facts.signals(root)
    memory = facts.meminfo(root)
    faults = _pairs((root / "proc/vmstat").read_text())
    limited = limits.memory is not None and limits.memory < memory["MemTotal"]
    swap = memory["SwapTotal"]
    return MachineUsage(
        measured_at=time.time(),
        booted_at=float(_pairs((root / "proc/stat").read_text())["btime"]),
        millicores=capacity.millicores,
        cpu=_processor_time(root),
        memory_capacity=capacity.memory,
        memory_available=min(left.memory_available, capacity.memory),
        memory_used=(limits.memory_charged or 0) if limited else memory["MemTotal"] - memory["MemFree"],
        anonymous=(limits.memory_anonymous or 0) if limited else memory["AnonPages"],
        page_faults=int(faults["pgfault"]),
        major_page_faults=int(faults["pgmajfault"]),
        swap_capacity=swap or None,
        swap_used=swap - memory["SwapFree"] if swap else None,
        file_system=_file_system(config.root_dir),
        container_file_system=_file_system(config.run_dir),
        log_file_system=_file_system(config.pod_logs_dir),
        processes=left.processes_capacity - left.processes_available,
        processes_capacity=left.processes_capacity,
    )


def _file_system(directory: str) -> FileSystemUsage:
    found = os.statvfs(directory)
    return FileSystemUsage(
        capacity=found.f_blocks * found.f_frsize,
        available=found.f_bavail * found.f_frsize,
        used=(found.f_blocks - found.f_bfree) * found.f_frsize,
        inodes=found.f_files,
        inodes_free=found.f_favail,
        read_only=bool(found.f_flag & os.ST_RDONLY),
    )


def _processor_time(root: Path) -> int:
    """Of the topmost control group that can be seen, as a kubelet measures its node; else of the machine."""
    base = root / "sys/fs/cgroup"
    try:
        return int(_pairs((base / "cpu.stat").read_text())["usage_usec"]) * 1000
    except (FileNotFoundError, KeyError):
        pass
    try:
        return int((base / "cpuacct/cpuacct.usage").read_text())
    except FileNotFoundError:
        pass
    # user, nice, system; then, behind idle and iowait, irq, softirq. Ticks of proc_stat(5).
    user, nice, system, _, _, irq, softirq = map(int, (root / "proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) * (10**9 // os.sysconf("SC_CLK_TCK"))


def _pairs(text: str) -> dict[str, str]:
    """Lines of a name, a blank and a value."""
    return {name: value for name, _, value in (line.partition(" ") for line in text.splitlines())}
