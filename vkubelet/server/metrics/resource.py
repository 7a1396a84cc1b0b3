"""`/metrics/resource`: processor time and memory, which metrics-server and autoscalers read.

It exists as a pure function of a snapshot. Names, labels, types and texts are the kubelet's
(resource_metrics.go), and so is which of the samples carry the time at which they were measured. It must not
know requests.
"""

from __future__ import annotations

from vkubelet.meters import Family, Sample, gauge, label_text
from vkubelet.pods.observed import SECOND
from vkubelet.server.metrics.snapshot import Snapshot


def resource_families(snapshot: Snapshot | None) -> list[Family]:
    """All families in the order of their names; None stands for a look that failed."""
    error = gauge(
        "resource_scrape_error",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
        [Sample(0 if snapshot is not None else 1)],
    )
    return (
        [error] if snapshot is None else [*_containers(snapshot), *_node(snapshot), *_pods(snapshot), error]
    )


def _containers(snapshot: Snapshot) -> list[Family]:
    cpu, memory, started = [], [], []
    for pod in snapshot.pods:
        meta = pod.entry.pod.metadata
        for container, usage in pod.containers:
            labels = label_text(container=container.spec.name, namespace=meta.namespace, pod=meta.name)
            cpu.append(Sample(usage.cpu / SECOND, labels, snapshot.at))
            memory.append(Sample(usage.working_set, labels, snapshot.at))
            started.append(Sample(container.started_at / SECOND, labels))
    return [
        Family(
            "container_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
            cpu,
        ),
        gauge(
            "container_memory_working_set_bytes",
            "[STABLE] Current working set of the container in bytes",
            memory,
        ),
        gauge(
            "container_start_time_seconds",
            "[STABLE] Start time of the container since unix epoch in seconds",
            started,
        ),
    ]


def _node(snapshot: Snapshot) -> list[Family]:
    machine = snapshot.machine
    swap = [] if machine.swap_used is None else [Sample(machine.swap_used, timestamp=machine.measured_at)]
    return [
        Family(
            "node_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
            [Sample(machine.cpu / SECOND, timestamp=machine.measured_at)],
        ),
        gauge(
            "node_memory_working_set_bytes",
            "[STABLE] Current working set of the node in bytes",
            [Sample(machine.working_set, timestamp=machine.measured_at)],
        ),
        gauge(
            "node_swap_usage_bytes",
            "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems",
            swap,
        ),
    ]


def _pods(snapshot: Snapshot) -> list[Family]:
    cpu, memory = [], []
    for pod in snapshot.pods:
        meta = pod.entry.pod.metadata
        labels = label_text(namespace=meta.namespace, pod=meta.name)
        cpu.append(Sample(pod.cpu / SECOND, labels, snapshot.at))
        used = sum(usage.working_set for _, usage in pod.containers)
        memory.append(Sample(used, labels, snapshot.at))
    return [
        Family(
            "pod_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
            cpu,
        ),
        gauge("pod_memory_working_set_bytes", "[STABLE] Current working set of the pod in bytes", memory),
    ]
