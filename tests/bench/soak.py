"""Pods that come and go, and whether anything of them stays.

    python -m tests.bench.soak [--pods N] [--wave N] [--first N]

A control plane and a node of its own run on this machine; pods with limits, a token, a config map and two
emptyDirs, one of them in memory, are created and deleted in waves. What the node has is looked at after the
first 4,000 pods, when all that it loads once is loaded, its heaps are as large as a wave makes them and it
keeps as much of events as it ever does (4,096 of a kind, as a kubelet), and after the last: memory,
descriptors, threads, tasks, processes, directories, mounts, cgroups, and the network namespaces of the
machine. Before each look the node has been at rest for as long as it waits until it gives memory back. The
exit code is 1 if anything but memory is more than before, or memory by more than an allocator explains.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from providers.wasmtime.hierarchies import Found
from tests.bench.client import Mounts, PodClient, watching
from tests.bench.cluster import Cluster, fresh
from tests.bench.node import Vkubelet, running
from vkubelet.api.client import ApiClient
from vkubelet.dev.build import cluster_binary
from vkubelet.dev.layout import default_cache
from vkubelet.dev.report import Report
from vkubelet.footprint import QUIET

PODS, WAVE, FIRST = 20_000, 200, 4_000
MOST_MEMORY = 8_000_000
"""Bytes that the agent, or the launcher, may hold more at the end: freed memory that is not given back."""
SETTLED_SECONDS = 60.0
"""Within which everything of deleted pods must be gone."""
MOUNTS = Mounts(
    token=True,
    volumes=(
        {"name": "config", "configMap": {"name": "shared"}},
        {"name": "data", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ),
    limits={"cpu": "100m", "memory": "32Mi"},
)
Looks = dict[str, int]


class Watched:
    """What a node has of this machine."""

    def __init__(self, node: Vkubelet, directory: Path) -> None:
        self._node = node
        self._directory = directory

    async def look(self) -> Looks:
        """Everything once. Counts, but for the memory, which is in bytes."""
        pids = self._node.processes()
        tasks = await self._tasks(pids["agent"])
        return {"tasks of the agent": tasks, **_of_processes(pids), **await asyncio.to_thread(self._places)}

    def _places(self) -> Looks:
        """What is there of containers and volumes. Blocks."""
        run = self._node.run_dir
        hierarchies = Found.decode((run / "wasmtime" / "cgroups").read_bytes()).hierarchies
        return {
            "containers' processes": len(self._node.containers()),
            "containers": _entries(run / "wasmtime" / "containers"),
            "trash": _entries(run / "wasmtime" / "trash"),
            "volumes in memory": _entries(run / "volumes"),
            "volumes": _entries(self._directory / "root" / "pods"),
            "log directories": _entries(self._directory / "pod-logs"),
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


def left(before: Looks, after: Looks) -> list[str]:
    """What is more than it was, or more than it may be."""
    return [
        name
        for name, count in after.items()
        if count > before[name] + (MOST_MEMORY if name.startswith("memory") else 0)
    ]


async def settled(watched: Watched, before: Looks) -> Looks:
    """The last look: as soon as nothing is left, or after a while."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while True:
        after = await watched.look()
        if not left(before, after) or time.monotonic() > deadline:
            return after
        await asyncio.sleep(1)


async def rest(client: PodClient) -> None:
    """Until the node has reported all, and has given back what it has freed."""
    await client.settled()
    await asyncio.sleep(2 * QUIET)


async def wave(client: PodClient, names: Sequence[str]) -> None:
    """Create these pods, see them run, delete them and see them gone."""
    await client.create(names)
    await client.delete_all()


async def soak(cluster: Cluster, node: Vkubelet, pods: int, size: int, begin_after: int) -> int:
    """Print what was found; how many kinds of things are left."""
    watched = Watched(node, cluster.directory / "node")
    async with watching(cluster.ready.kubeconfig, node.node, cluster.image) as client:
        await prepare(client.api)
        client.mounts = MOUNTS
        for first in range(0, begin_after, size):
            await wave(client, [f"first-{number}" for number in range(first, first + size)])
        await rest(client)
        before, begin = await watched.look(), time.perf_counter()
        for first in range(0, pods, size):
            await wave(client, [f"pod-{number}" for number in range(first, min(first + size, pods))])
            if sys.stdout.isatty():
                print(f"\r  {min(first + size, pods)} pods", end="\r", flush=True)
        took = time.perf_counter() - begin
        await rest(client)
        after = await settled(watched, before)
    print(f"  {pods} pods in waves of {size}: {took:.0f} s, {pods / took:.0f} pods/s")
    wrong = left(before, after)
    for name, count in before.items():
        mark = "  LEFT" if name in wrong else ""
        if name.startswith("memory"):
            grown = (after[name] - count) / 1e6
            print(f"  {name:28} {count / 1e6:8.1f} {after[name] / 1e6:8.1f} {grown:+8.1f} MB{mark}")
        else:
            print(f"  {name:28} {count:8} {after[name]:8} {after[name] - count:+8}{mark}")
    return len(wrong)


async def prepare(api: ApiClient) -> None:
    """The config map that all pods share."""
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"a": "1"}}
    await api.post("/api/v1/namespaces/default/configmaps", msgspec.json.encode(document))


def main() -> int:
    """Run on a control plane and a node of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=PODS, help="pods in all")
    parser.add_argument("--wave", type=int, default=WAVE, help="pods at once")
    parser.add_argument("--first", type=int, default=FIRST, help="pods before the first look")
    options = parser.parse_args()
    # Ended like interrupted: everything that was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        fresh(cluster_binary(default_cache(), Report())) as cluster,
        running(cluster.ready, cluster.directory) as node,
    ):
        return min(uvloop.run(soak(cluster, node, options.pods, options.wave, options.first)), 1)


if __name__ == "__main__":
    sys.exit(main())
