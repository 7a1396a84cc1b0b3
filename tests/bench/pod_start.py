"""How long a pod takes from its creation until a watching client sees it Running, and what that costs.

At a low rate the latency shows; what the API server itself takes stands in rows of its own. In a burst the
machine is the limit: pods a second, and CPU time a pod.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from tests.bench.client import PodClient
from tests.bench.idle import busy_seconds, cpu_seconds, thread_seconds
from tests.bench.node_figures import Figures, Row, percentile
from tests.bench.node_peer import Peer

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
    Row("burst_containers", "container's CPU, from fork to sleep", "ms", 2),
    Row("burst_control", "control plane's CPU a pod", "ms", 2),
    Row("burst_client", "this client's CPU a pod", "ms", 2),
    Row("burst_others", "used by others meanwhile, of the machine", "%", 0, compared=False),
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


async def burst(client: PodClient, pods: int, peer: Peer, control: Mapping[str, int]) -> Figures:
    """Create `pods` pods as fast as it goes, and leave them running."""
    names = [f"burst-{number}" for number in range(pods)]
    watched = {name: [pid] for name, pid in peer.processes().items()}
    watched |= {"control": list(control.values()), "client": [os.getpid()]}
    before = {name: cpu_seconds(pids) for name, pids in watched.items()}
    busy, begin = busy_seconds(), time.perf_counter()
    await client.create(names)
    took, busy = time.perf_counter() - begin, busy_seconds() - busy
    used = {name: cpu_seconds(pids) - before[name] for name, pids in watched.items()}
    if containers := peer.containers():
        used["containers"] = thread_seconds(containers)
    found = {f"burst_{name}": seconds * 1000 / pods for name, seconds in used.items()}
    found["burst_others"] = max(0.0, busy - sum(used.values())) / took / (os.cpu_count() or 1) * 100
    found["burst_rate"] = pods / (max(client.moments.running.values()) - begin)
    return found
