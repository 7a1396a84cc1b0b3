"""What hostile guests cost those beside them, and how long each of them takes to die.

    python -m tests.bench.hostile [--pods N] [--rounds N]

Pods are started one after the other on a node of its own, in turns alone and beside one guest a processor
that burns it, one that floods its log, one that makes files and one that opens them: medians of the time from
when a pod is shown until it is shown Running, and their ratio. Then each kind of hostile container is killed
while it does its worst, several times: the time from SIGKILL until it is reaped and told of.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import hashlib
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop
from guests import build_guest, push_guest
from namespaces import pod_spec

from tests.bench.client import PODS, PodClient, watching
from tests.bench.cluster import Cluster, fresh
from tests.bench.node import Vkubelet, running
from tests.bench.node_figures import percentile
from tests.bench.pod_start import RATE
from tests.bench.provider_rate import TMPFS, Bench
from vkubelet.dev.build import cluster_binary
from vkubelet.dev.layout import default_cache
from vkubelet.dev.report import Report

MOST_RATIO, MOST_TO_DIE = 2.0, 100.0
"""What the starts beside may take of those alone, and milliseconds until a killed container is reaped."""
KILLS = 5
BESIDE = (
    *(("spin",) for _ in range(os.cpu_count() or 1)),
    ("flood", "endless", "1000000000"),
    ("files", "/", "1000000"),
    ("open",),
)
DYING = (
    ("spin",),
    ("flood", "endless", "1000000000"),
    ("files", "/", "1000000"),
    ("deep", "/", "2500"),
    ("open",),
    ("block", "clock"),
)
WARM_UP = 0.5
"""Seconds that a guest has to do its worst before it is killed."""


async def beside(cluster: Cluster, node: Vkubelet, pods: int, rounds: int) -> None:
    """Print how long pods take to start alone and beside hostile ones."""
    hostile = push_guest(cluster.ready.registry, "hostile")
    async with watching(cluster.ready.kubeconfig, node.node, cluster.image) as client:
        await client.create([f"warm-{number}" for number in range(pods)])
        await client.delete_all()
        alone: list[float] = []
        crowded: list[float] = []
        for number in range(rounds):
            alone += await starts(client, f"alone-{number}", pods)
            names = [f"hostile-{number}-{index}" for index in range(len(BESIDE))]
            for name, args in zip(names, BESIDE, strict=True):
                await client.api.post(PODS, document(name, node.node, hostile, args), timeout=30)
            await asyncio.sleep(WARM_UP)
            crowded += await starts(client, f"crowded-{number}", pods)
            for name in names:
                await client.api.delete(f"{PODS}/{name}")
            await client.settled()
    alone.sort()
    crowded.sort()
    for title, took in (("alone", alone), ("beside hostile ones", crowded)):
        median, worst = statistics.median(took), percentile(took, 0.99)
        print(f"  a pod's start {title}: median {median:.1f} ms, p99 {worst:.1f} ms")
    ratio = statistics.median(crowded) / statistics.median(alone)
    print(f"  ratio of the medians: {ratio:.2f} (at most {MOST_RATIO:g})")


def document(name: str, node: str, image: str, args: tuple[str, ...]) -> bytes:
    """A hostile pod."""
    spec = pod_spec(image, *args, nodeName=node, restartPolicy="Never", terminationGracePeriodSeconds=1)
    metadata = {"name": name}
    return msgspec.json.encode({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


async def starts(client: PodClient, name: str, pods: int) -> list[float]:
    """Milliseconds from when each pod is shown, as the node sees it too, until it is shown Running."""
    names = [f"{name}-{number}" for number in range(pods)]
    await client.create(names, RATE)
    took = client.moments.took(client.moments.added, client.moments.running, names)
    await client.delete_all()
    return took


async def dying() -> None:
    """Print how long killed containers take to be gone."""
    with tempfile.TemporaryDirectory(prefix="vkubelet-bench-", dir=TMPFS) as directory:
        bench = Bench(Path(directory))
        await bench.provider.open(bench.ended.put_nowait)
        module = build_guest("hostile")
        digest = hashlib.sha256(module.read_bytes()).hexdigest()
        artifact = await bench.provider.prepare(module, f"sha256:{digest}")
        for args in DYING:
            took, removed = [], []
            for _ in range(KILLS):
                spec = dataclasses.replace(bench.spec(artifact), args=("hostile", *args))
                state = await bench.provider.start(spec)
                await asyncio.sleep(WARM_UP)
                began = time.perf_counter()
                await bench.provider.kill(state.id)
                await bench.ended.get()
                took.append((time.perf_counter() - began) * 1e3)
                began = time.perf_counter()
                await bench.provider.remove(state.id)
                removed.append((time.perf_counter() - began) * 1e3)
            print(
                f"  {' '.join(args[:2]):14} SIGKILL to reaped: median {statistics.median(took):6.1f} ms, "
                f"at worst {max(took):6.1f} ms (at most {MOST_TO_DIE:g}); removed in {max(removed):7.1f} ms"
            )
        await bench.provider.close()


def main() -> None:
    """Measure on a control plane and a node of its own, and then on a provider alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=25, help="pods of a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns alone and beside")
    options = parser.parse_args()
    # Ended like interrupted: everything that was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        fresh(cluster_binary(default_cache(), Report())) as cluster,
        running(cluster.ready, cluster.directory) as node,
    ):
        uvloop.run(beside(cluster, node, options.pods, options.rounds))
    uvloop.run(dying())


if __name__ == "__main__":
    main()
