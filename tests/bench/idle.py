"""What a node costs that only waits: the CPU time of its processes over a while in which nothing changes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.bench.node_figures import Figures, Row

TITLE = "idle, {pods} pods, {seconds:.0f} s"
ROWS = (
    Row("idle_cpu", "CPU of agent and launcher", "% of a core", 2, most=2),
    Row("idle_agent", "  of it the agent", "% of a core", 2),
)
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that the processes themselves have used; that of ended children is not theirs."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def thread_seconds(pids: Iterable[int]) -> float:
    """The time of processes of one thread, to the nanosecond: ticks would say nothing of a short life."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


def busy_seconds() -> float:
    """The time that all CPUs of this machine together were busy since boot."""
    user, nice, system, _, _, interrupts, soft, *_ = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, interrupts, soft))) / TICKS


async def measure(processes: Mapping[str, int], seconds: float) -> Figures:
    """Wait `seconds` and say what the processes used in them, in percent of one core."""
    before = {name: cpu_seconds([pid]) for name, pid in processes.items()}
    begin = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - begin
    used = {name: (cpu_seconds([pid]) - before[name]) / took * 100 for name, pid in processes.items()}
    return {"idle_cpu": sum(used.values()), "idle_agent": used["agent"]}
