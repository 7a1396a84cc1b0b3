"""What a pod costs in memory: of the whole machine, and of each process that could be to blame.

The difference of MemAvailable counts everything, kernel memory and the control plane's own growth included;
a peer that runs nothing tells what the control plane takes for an object.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.bench.node_figures import Figures, Row

TITLE = "memory, {pods} pods"
ROWS = (
    Row("memory_pod", "all-in, a pod", "KB", 0),
    Row("memory_control", "  of it the control plane's growth", "KB", 0, compared=False),
    Row("memory_node", "  of it the node's", "KB", 0, compared=False),
    Row("memory_container", "  of it private to its container", "KB", 0),
    Row("memory_tables", "  of it the container's page tables", "KB", 0),
    Row("memory_agent", "agent, resident", "MB", 1, most=80),
    Row("memory_agent_bare", "agent without a pod, resident", "MB", 1),
    Row("memory_launcher", "launcher, resident", "MB", 1),
)


class Memory:
    """One look at the machine and at the processes of interest, in bytes."""

    def __init__(self, control: Mapping[str, int], node: Mapping[str, int], containers: list[int]) -> None:
        self.available = _field(Path("/proc/meminfo"), "MemAvailable")
        self.control = sum(_resident(pid, "RssAnon") for pid in control.values())
        self.node = {name: _resident(pid, "VmRSS") for name, pid in node.items()}
        self.containers = sum(_private(pid) for pid in containers)
        self.tables = sum(_resident(pid, "VmPTE") for pid in containers)


def figures(bare: Memory, full: Memory, pods: int) -> Figures:
    """What `pods` pods took, from a look before the first and one after the last had settled."""
    everything = (bare.available - full.available) / pods / 1e3
    control = (full.control - bare.control) / pods / 1e3
    found = {
        "memory_pod": everything,
        "memory_control": control,
        "memory_node": everything - control,
        "memory_agent": full.node["agent"] / 1e6,
        "memory_agent_bare": bare.node["agent"] / 1e6,
    }
    if full.containers:
        found["memory_container"] = full.containers / pods / 1e3
        found["memory_tables"] = full.tables / pods / 1e3
    if "launcher" in full.node:
        found["memory_launcher"] = full.node["launcher"] / 1e6
    return found


def _private(pid: int) -> int:
    """What would be free if this process alone ended: not the pages that it still shares with its parent."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    return _field(rollup, "Private_Clean") + _field(rollup, "Private_Dirty")


def _resident(pid: int, field: str) -> int:
    return _field(Path(f"/proc/{pid}/status"), field)


def _field(file: Path, name: str) -> int:
    """A line `Name: 123 kB` in bytes."""
    for line in file.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{file} has no {name}")
