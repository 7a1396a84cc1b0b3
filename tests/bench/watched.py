"""What a node has of this machine, looked at before and after a soak, and what of it has grown."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from providers.wasmtime.hierarchies import Found
from tests.bench.client import PodClient
from tests.bench.node import Vkubelet
from vkubelet.footprint import QUIET

MOST_MEMORY = 8_000_000
"""Bytes that the agent, or the launcher, may hold more at the end: freed memory that is not given back."""
SETTLED_SECONDS = 60.0
"""Within which everything of what has ended must be gone."""
Looks = dict[str, int]


class Watched:
    """What a node has of this machine."""

    def __init__(self, node: Vkubelet, directory: Path) -> None:
        """`directory` is where the node keeps what outlives a boot, and its pods' logs."""
        self._node = node
        self._directory = directory

    async def look(self) -> Looks:
        """Everything once. Counts, but for the memory, which is in bytes."""
        pids = self._node.processes()
        tasks = await self._tasks(pids["agent"])
        return {"tasks of the agent": tasks, **_of_processes(pids), **await asyncio.to_thread(self._places)}

    def _places(self) -> Looks:
        """What is there of containers, volumes and files. Blocks."""
        run, root, logs = self._node.run_dir, self._directory / "root", self._directory / "pod-logs"
        hierarchies = Found.decode((run / "wasmtime" / "cgroups").read_bytes()).hierarchies
        return {
            "memory of the run directory": _size(run),
            "containers' processes": len(self._node.containers()),
            "containers": _entries(run / "wasmtime" / "containers"),
            "trash": _entries(run / "wasmtime" / "trash"),
            "volumes in memory": _entries(run / "volumes"),
            "volumes": _entries(root / "pods"),
            "log directories": _entries(logs),
            "all below the run directory": _below(run),
            "all below the root directory": _below(root),
            "all below the log directory": _below(logs),
            "mounts": Path("/proc/self/mounts").read_text().count(str(run)),
            "cgroups": sum(len(list(each.base.glob("**/"))) for each in hierarchies),
            "network namespaces": _network_namespaces(),
        }

    async def _tasks(self, agent: int) -> int:
        """How many the agent has; it is asked by a signal and answers in a file."""
        file = self._node.run_dir / "state.json"
        file.unlink(missing_ok=True)
        os.kill(agent, signal.SIGUSR1)
        async with asyncio.timeout(SETTLED_SECONDS):
            while not file.exists():  # noqa: ASYNC110  a file tells nobody
                await asyncio.sleep(0.05)
        return len(msgspec.json.decode(file.read_bytes(), type=dict[str, Any])["tasks"])


def _of_processes(pids: Mapping[str, int]) -> Looks:
    found = {}
    for name, pid in pids.items():
        found[f"memory of the {name}"] = _status(pid, "VmRSS") * 1024
        found[f"descriptors of the {name}"] = _entries(Path(f"/proc/{pid}/fd"))
        found[f"threads of the {name}"] = _status(pid, "Threads")
    return found


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise ValueError(f"process {pid} has no {field}")


def _network_namespaces() -> int:
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found.add(path.readlink())
    return len(found)


def _entries(directory: Path) -> int:
    return sum(1 for _ in directory.iterdir()) if directory.exists() else 0


def _below(directory: Path) -> int:
    """Files and directories, however deep; what goes meanwhile is passed over."""
    return sum(len(directories) + len(files) for _, directories, files in os.walk(directory))


def _size(directory: Path) -> int:
    """Bytes that the files below take of their file system: memory, where that is a tmpfs."""
    blocks = 0
    for place, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # it has just gone
                blocks += os.lstat(Path(place) / name).st_blocks
    return blocks * 512


def left(before: Looks, after: Looks) -> list[str]:
    """What is more than it was, or more than it may be."""
    return [
        name
        for name, count in after.items()
        if count > before[name] + (MOST_MEMORY if name.startswith("memory") else 0)
    ]


async def settled(look: Callable[[], Awaitable[Looks]], before: Looks) -> Looks:
    """The last look: as soon as nothing is left, or after a while."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while True:
        after = await look()
        if not left(before, after) or time.monotonic() > deadline:
            return after
        await asyncio.sleep(1)


async def rest(client: PodClient) -> None:
    """Until the node has reported all, and has given back what it has freed."""
    await client.settled()
    await asyncio.sleep(2 * QUIET)


def show(before: Looks, after: Looks) -> int:
    """Print both looks; how many kinds of things are left."""
    wrong = left(before, after)
    for name, count in before.items():
        mark = "  LEFT" if name in wrong else ""
        if name.startswith("memory"):
            grown = (after[name] - count) / 1e6
            print(f"  {name:28} {count / 1e6:8.1f} {after[name] / 1e6:8.1f} {grown:+8.1f} MB{mark}")
        else:
            print(f"  {name:28} {count:8} {after[name]:8} {after[name] - count:+8}{mark}")
    return len(wrong)
