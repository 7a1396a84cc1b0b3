"""How soon many pods are gone that are deleted at once, whose time that takes, and what kubectl adds.

They are deleted by one request, so that nobody waits for the client; then as many again by `kubectl delete`,
which asks for each of them by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import time

import uvloop

from tests.bench.client import Mounts, PodClient, watching
from tests.bench.cluster import Cluster, fresh
from tests.bench.idle import cpu_seconds
from tests.bench.node import Vkubelet, running
from tests.bench.node_figures import percentile
from vkubelet.dev import kubectl
from vkubelet.dev.build import cluster_binary
from vkubelet.dev.layout import default_cache
from vkubelet.dev.report import Report

KUBECTL = ("delete", "pods", "--all", "--now")


async def measure(cluster: Cluster, node: Vkubelet, pods: int) -> None:
    """Print what was found."""
    async with watching(cluster.ready.kubeconfig, node.node, cluster.image) as client:
        client.mounts = Mounts(token=True)
        await start(client, "one", pods)
        moments, processes = client.moments, {"agent": node.processes()["agent"], **cluster.processes()}
        before, began = {name: cpu_seconds([pid]) for name, pid in processes.items()}, time.perf_counter()
        await client.delete_all()
        took = time.perf_counter() - began
        each = moments.took(moments.ending, moments.gone, sorted(moments.ending))
        print(f"  {pods} pods deleted by one request are gone after {took:.1f} s")
        print(f"  of each, from shown deleted to gone: median {percentile(each, 0.5):.0f} ms")
        for name, pid in processes.items():
            print(f"  {name}: {cpu_seconds([pid]) - before[name]:.1f} s of a processor")
        await start(client, "each", pods)
        began = time.perf_counter()
        await asyncio.to_thread(delete_by_kubectl, cluster)
        ended, gone = time.perf_counter() - began, max(client.moments.gone.values()) - began
        print(f"  by kubectl they are gone after {gone:.1f} s, and it ends after {ended:.1f} s")


async def start(client: PodClient, name: str, pods: int) -> None:
    """As many pods, all running, with nothing left to report."""
    await client.create([f"{name}-{number}" for number in range(pods)])
    await client.settled()


def delete_by_kubectl(cluster: Cluster) -> None:
    """All pods of the namespace."""
    environment = kubectl.environment(cluster.ready.kubeconfig)
    subprocess.run([kubectl.binary(), *KUBECTL], env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure on a control plane and a node of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=500)
    options = parser.parse_args()
    with (
        fresh(cluster_binary(default_cache(), Report())) as cluster,
        running(cluster.ready, cluster.directory) as node,
    ):
        uvloop.run(measure(cluster, node, options.pods))


if __name__ == "__main__":
    main()
