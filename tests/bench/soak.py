"""Pods that come and go, and whether anything of them stays.

    python -m tests.bench.soak [--pods N] [--wave N] [--first N]

A control plane and a node of its own run on this machine; pods with limits, a token, a config map and two
emptyDirs, one of them in memory, are created and deleted in waves. What the node has is looked at after the
first 4,000 pods, when all that it loads once is loaded, its heaps are as large as a wave makes them and it
keeps as much of events as it ever does (4,096 of a kind, as a kubelet), and after the last: memory,
descriptors, threads, tasks, processes, files, directories, mounts, cgroups, and the network namespaces of the
machine. Before each look the node has been at rest for as long as it waits until it gives memory back. The
exit code is 1 if anything but memory is more than before, or memory by more than an allocator explains.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence

import msgspec
import uvloop

from tests.bench.client import Mounts, PodClient, watching
from tests.bench.cluster import Cluster, fresh
from tests.bench.node import Vkubelet, running
from tests.bench.watched import Watched, rest, settled, show
from vkubelet.api.client import ApiClient
from vkubelet.dev.build import cluster_binary
from vkubelet.dev.layout import default_cache
from vkubelet.dev.report import Report

PODS, WAVE, FIRST = 20_000, 200, 4_000
MOUNTS = Mounts(
    token=True,
    volumes=(
        {"name": "config", "configMap": {"name": "shared"}},
        {"name": "data", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ),
    limits={"cpu": "100m", "memory": "32Mi"},
)


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
        after = await settled(watched.look, before)
    print(f"  {pods} pods in waves of {size}: {took:.0f} s, {pods / took:.0f} pods/s")
    return show(before, after)


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
