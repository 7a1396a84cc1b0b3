"""What volumes add to a pod's start, and what 500 pods that share a config map cost.

The usual set is the service account's token, a config map, a secret and an emptyDir. Pods with and without it
take turns on one node, at a rate at which no pod waits for another; medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import time
from pathlib import Path

import msgspec
import uvloop

from tests.bench.client import Mounts, PodClient, watching
from tests.bench.cluster import REST, Cluster, fresh, rest
from tests.bench.idle import cpu_seconds
from tests.bench.node import Vkubelet, running
from tests.bench.node_figures import percentile
from tests.bench.pod_start import RATE
from vkubelet.api.client import ApiClient
from vkubelet.dev.build import cluster_binary
from vkubelet.dev.layout import default_cache
from vkubelet.dev.report import Report

PODS_A_TURN = 25
MOST_ADDED = 5.0
"""Milliseconds that the usual set may add."""
LOOK = 0.05
"""Seconds between two looks at what pods see."""
SHARED = {"name": "config", "configMap": {"name": "shared"}}
USUAL = Mounts(
    token=True,
    volumes=(
        SHARED,
        {"name": "secret", "secret": {"secretName": "shared"}},
        {"name": "data", "emptyDir": {}},
    ),
)
WATCHES = re.compile(
    r'^apiserver_longrunning_requests\{[^}]*resource="configmaps"[^}]*verb="WATCH"[^}]*\} (\d+)$',
    re.MULTILINE,
)


async def prepare(api: ApiClient) -> None:
    """The config map and the secret that all pods share."""
    for kind, field, data in (
        ("ConfigMap", "data", {"a": "1", "b": "2"}),
        ("Secret", "stringData", {"c": "3"}),
    ):
        document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "shared"}, field: data}
        path = f"/api/v1/namespaces/default/{kind.lower()}s"
        await api.post(path, msgspec.json.encode(document))


async def config_map_watches(api: ApiClient) -> int:
    """How many watches of config maps the API server has, whoever holds them."""
    return sum(map(int, WATCHES.findall((await api.get("/metrics")).decode())))


def shown(run_dir: Path, value: str) -> int:
    """How many pods see this value of the config map."""
    files = run_dir.glob("volumes/*/kubernetes.io~configmap/config/a")
    return sum(path.read_text() == value for path in files)


async def starts(client: PodClient, mounts: Mounts, name: str) -> list[float]:
    """Milliseconds from when each pod is shown, as the node sees it too, until it is shown Running."""
    client.mounts = mounts
    names = [f"{name}-{number}" for number in range(PODS_A_TURN)]
    await client.create(names, RATE)
    took = client.moments.took(client.moments.added, client.moments.running, names)
    await client.delete_all()
    await client.settled()
    return took


async def tokens(api: ApiClient, pods: list[str]) -> list[float]:
    """Milliseconds that a token of each pod takes, asked for by somebody who does nothing else: the floor."""
    took = []
    for name in pods:
        bound = {"kind": "Pod", "apiVersion": "v1", "name": name}
        document = {"spec": {"audiences": [], "expirationSeconds": 3607, "boundObjectRef": bound}}
        begin = time.perf_counter()
        await api.post(
            "/api/v1/namespaces/default/serviceaccounts/default/token", msgspec.json.encode(document)
        )
        took.append((time.perf_counter() - begin) * 1000)
        await asyncio.sleep(1 / RATE)
    return took


async def measure(cluster: Cluster, node: Vkubelet, pods: int, rounds: int) -> None:
    """Print what was found."""
    async with watching(cluster.ready.kubeconfig, node.node, cluster.image) as client:
        await prepare(client.api)
        client.mounts = USUAL
        warm = [f"warm-{number}" for number in range(20)]
        await client.create(warm)
        floor = statistics.median(await tokens(client.api, warm))
        await client.delete_all()
        await client.settled()
        busy = await rest()
        if busy > REST:
            print(f"  this machine is not at rest ({busy:.0%} busy): trust the figures little")
        bare: list[float] = []
        usual: list[float] = []
        for number in range(rounds):
            bare += await starts(client, Mounts(), f"bare-{number}")
            usual += await starts(client, USUAL, f"usual-{number}")
        bare.sort()
        usual.sort()
        for title, took in (("without volumes", bare), ("with the usual set", usual)):
            median, worst = percentile(took, 0.5), percentile(took, 0.99)
            print(f"  seen Pending -> Running {title}: median {median:.1f} ms, p99 {worst:.1f} ms")
        added = statistics.median(usual) - statistics.median(bare)
        print(f"  the usual set adds {added:.1f} ms (at most {MOST_ADDED:.0f}); a token: {floor:.1f} ms")
        await burst(client, node, pods, Mounts(), "without volumes")
        await client.delete_all()
        await client.settled()
        before = await config_map_watches(client.api)
        await burst(client, node, pods, USUAL, "with the usual set")
        watches = await config_map_watches(client.api) - before
        print(f"  watches of config maps for them: {watches} (the shared one and kube-root-ca.crt)")
        await change(client, node, pods)
        await client.delete_all()


async def burst(client: PodClient, node: Vkubelet, pods: int, mounts: Mounts, title: str) -> None:
    """As many pods as fast as it goes; they are left running."""
    client.mounts = mounts
    cpu, begin = agent_seconds(node), time.perf_counter()
    await client.create([f"burst-{len(mounts.volumes)}-{number}" for number in range(pods)])
    took, cpu = time.perf_counter() - begin, agent_seconds(node) - cpu
    print(f"  {pods} pods {title}: {pods / took:.0f} pods/s, {cpu * 1000 / pods:.2f} ms agent's CPU a pod")


async def change(client: PodClient, node: Vkubelet, pods: int) -> None:
    """One change of the config map, until all pods see it."""
    cpu, begin = agent_seconds(node), time.perf_counter()
    path, patch = "/api/v1/namespaces/default/configmaps/shared", b'{"data": {"a": "changed"}}'
    await client.api.patch(path, patch, "application/merge-patch+json")
    while await asyncio.to_thread(shown, node.run_dir, "changed") < pods:  # noqa: ASYNC110  files tell nobody
        await asyncio.sleep(LOOK)
    took, cpu = time.perf_counter() - begin, agent_seconds(node) - cpu
    print(
        f"  a change reaches all {pods} within {took * 1000:.0f} ms, "
        f"{cpu * 1000 / pods:.2f} ms agent's CPU a pod"
    )


def agent_seconds(node: Vkubelet) -> float:
    """CPU time of the agent so far."""
    return cpu_seconds([node.processes()["agent"]])


def main() -> None:
    """Measure on a control plane and a node of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=500, help="pods of the burst")
    parser.add_argument("--rounds", type=int, default=4, help=f"turns of {PODS_A_TURN} pods each")
    options = parser.parse_args()
    with (
        fresh(cluster_binary(default_cache(), Report())) as cluster,
        running(cluster.ready, cluster.directory) as node,
    ):
        uvloop.run(measure(cluster, node, options.pods, options.rounds))


if __name__ == "__main__":
    main()
