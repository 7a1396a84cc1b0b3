"""What is read of a machine's usage: of this one, and of others made of files."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vkubelet.config import Config
from vkubelet.node import facts, usage
from vkubelet.pods.machine import MachineUsage

GIB = 1024**3
TICK = 10**9 // os.sysconf("SC_CLK_TCK")
FILES = {
    "proc/meminfo": (
        "MemTotal: 8388608 kB\nMemFree: 1048576 kB\nMemAvailable: 4194304 kB\nAnonPages: 2097152 kB\n"
        "SwapTotal: 2048 kB\nSwapFree: 512 kB\n"
    ),
    "proc/stat": "cpu  100 20 30 4000 50 6 7 80 9 1\ncpu0 1 2\nintr 5 6\nbtime 1700000000\nprocesses 9\n",
    "proc/vmstat": "nr_free_pages 7\npgfault 500\npgmajfault 3\n",
    "proc/self/cgroup": "0::/\n",
    "proc/sys/kernel/pid_max": "4000\n",
    "proc/sys/kernel/threads-max": "1000\n",
    "proc/loadavg": "0.1 0.2 0.3 2/250 4711\n",
}
LIMITED = {
    "proc/self/cgroup": "0::/box\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory pids\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 123456\nuser_usec 100000\n",
    "sys/fs/cgroup/box/memory.max": f"{2 * GIB}\n",
    "sys/fs/cgroup/box/memory.current": f"{GIB}\n",
    "sys/fs/cgroup/box/memory.stat": f"anon {GIB // 2}\ninactive_file {GIB // 4}\n",
}


def config(directory: Path) -> Config:
    return Config(root_dir=str(directory), run_dir=str(directory), pod_logs_dir=str(directory))


def look(root: Path, files: dict[str, str], memory: int) -> MachineUsage:
    for name, text in {**FILES, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usage.read(config(root), facts.Resources(4000, memory, 0, 10), root)


def test_the_whole_machine(tmp_path: Path) -> None:
    found = look(tmp_path, {}, 8 * GIB)
    assert found.booted_at == 1_700_000_000
    assert found.cpu == (100 + 20 + 30 + 6 + 7) * TICK
    assert (found.memory_used, found.memory_available, found.working_set) == (7 * GIB, 4 * GIB, 4 * GIB)
    assert found.anonymous == 2 * GIB
    assert (found.page_faults, found.major_page_faults) == (500, 3)
    assert (found.swap_capacity, found.swap_used) == (2048 * 1024, 1536 * 1024)
    assert (found.processes, found.processes_capacity) == (250, 1000)


def test_a_limited_part_of_the_machine(tmp_path: Path) -> None:
    found = look(tmp_path, LIMITED, 2 * GIB)
    assert found.cpu == 123_456_000
    assert (found.memory_used, found.anonymous) == (GIB, GIB // 2)
    assert found.working_set == GIB - GIB // 4


@pytest.mark.parametrize(
    ("files", "cpu"),
    [
        ({"sys/fs/cgroup/cpuacct/cpuacct.usage": "987654321\n"}, 987654321),
        ({"sys/fs/cgroup/cpu.stat": "nr_periods 0\n"}, 163 * TICK),
    ],
    ids=["version 1", "no usage in it"],
)
def test_where_processor_time_stands(tmp_path: Path, files: dict[str, str], cpu: int) -> None:
    assert look(tmp_path, files, 8 * GIB).cpu == cpu


def test_no_swap(tmp_path: Path) -> None:
    files = {"proc/meminfo": FILES["proc/meminfo"].replace("2048", "0").replace("512", "0")}
    found = look(tmp_path, files, 8 * GIB)
    assert (found.swap_capacity, found.swap_used) == (None, None)


def test_this_machine(tmp_path: Path) -> None:
    capacity = facts.read(config(tmp_path)).capacity
    first = usage.read(config(tmp_path), capacity)
    used_until = time.process_time_ns() + 50_000_000
    while time.process_time_ns() < used_until:
        pass
    second = usage.read(config(tmp_path), capacity)
    assert second.cpu >= first.cpu + 40_000_000
    assert 0 < second.booted_at < second.measured_at
    assert 0 < second.working_set < capacity.memory
    assert 0 < second.file_system.used <= second.file_system.capacity
