"""How long a pod takes from its creation until a watching client sees it Running, and what that costs.

At a low rate the latency shows; what the API server itself takes stands in rows of its own. In a burst the
machine is the limit: pods a second, and CPU time a pod.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.bench.client import PodClient
from tests.bench.idle import busy_seconds, cpu_seconds
from tests.bench.node_figures import Figures, Row, percentile

RATE = 5.0
"""Pods a second: slow enough that no pod waits for another."""
RATE_TITLE = "pod start, {rate_pods} pods at 5 a second"
RATE_ROWS = (
    Row("start_median", "created -> Running, median", "ms", most=8),
    Row("start_p99", "created -> Running, p99", "ms", most=30),
    Row("start_posted", "  created -> answered (API server alone), median", "ms"),
    Row("start_node", "  seen Pending -> Running (the node's part), median", "ms"),
)
BURST_TITLE = "pod start, burst of {pods}"
BURST_ROWS = (
    Row("burst_rate", "first created -> last Running", "pods/s", 0, least_ratio=0.75),
    Row("burst_agent", "agent's CPU a pod", "ms", 2, most=1),
    Row("burst_launcher", "launcher's CPU a pod", "ms", 2),
    Row("burst_control", "control plane's CPU a pod", "ms", 2),
    Row("burst_all", "whole machine's CPU a pod", "ms", 2),
)


async def at_a_rate(client: PodClient, pods: int) -> Figures:
    """Create `pods` pods at RATE and leave none."""
    names = [f"rate-{number}" for number in range(pods)]
    await client.create(names, RATE)
    moments = client.moments
    took = moments.took(moments.sent, moments.running, names)
    found = {
        "start_median": percentile(took, 0.5),
        "start_p99": percentile(took, 0.99),
        "start_posted": percentile(moments.took(moments.sent, moments.answered, names), 0.5),
        "start_node": percentile(moments.took(moments.added, moments.running, names), 0.5),
    }
    await client.delete_all()
    return found


async def burst(client: PodClient, pods: int, node: Mapping[str, int], control: Mapping[str, int]) -> Figures:
    """Create `pods` pods as fast as it goes, and leave them running."""
    names = [f"burst-{number}" for number in range(pods)]
    watched = {name: [pid] for name, pid in node.items()} | {"control": list(control.values())}
    before = {name: cpu_seconds(pids) for name, pids in watched.items()}
    busy, begin = busy_seconds(), time.perf_counter()
    await client.create(names)
    found = {
        f"burst_{name}": (cpu_seconds(pids) - before[name]) * 1000 / pods for name, pids in watched.items()
    }
    found["burst_all"] = (busy_seconds() - busy) * 1000 / pods
    found["burst_rate"] = pods / (max(client.moments.running.values()) - begin)
    return found
