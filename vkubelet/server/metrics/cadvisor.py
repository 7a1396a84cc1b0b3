"""`/metrics/cadvisor`: the container series that dashboards and recording rules are written for.

It exists as a pure function of a snapshot. Names, labels, types and texts are cAdvisor's as a kubelet serves
them; of its many series here are those that are measured, or said by a spec. As there, the machine has the id
`/`, and a pod's own series have no container, image or name. It must not know requests.
"""

from __future__ import annotations

from collections import defaultdict

from providers.base import Usage
from vkubelet.api.containers import Container
from vkubelet.meters import Family, Sample, label_text
from vkubelet.pods.observed import SECOND
from vkubelet.pods.resources import limit, request
from vkubelet.server.metrics.snapshot import PodSnapshot, Snapshot

_PERIOD = 100_000
"""Microseconds: the period for which a CPU limit is a quota (pkg/kubelet/cm, QuotaPeriod)."""
_SHARES_PER_CORE = 1024
_MIN_SHARES = 2

_FAMILIES = {
    "container_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed in seconds."),
    "container_fs_limit_bytes": (
        "gauge",
        "Number of bytes that can be consumed by the container on this filesystem.",
    ),
    "container_fs_usage_bytes": (
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
    ),
    "container_last_seen": ("gauge", "Last time a container was seen by the exporter"),
    "container_memory_failures_total": ("counter", "Cumulative count of memory allocation failures."),
    "container_memory_rss": ("gauge", "Size of RSS in bytes."),
    "container_memory_usage_bytes": (
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
    ),
    "container_memory_working_set_bytes": ("gauge", "Current working set in bytes."),
    "container_processes": ("gauge", "Number of processes running inside the container."),
    "container_scrape_error": (
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    ),
    "container_spec_cpu_period": ("gauge", "CPU period of the container."),
    "container_spec_cpu_quota": ("gauge", "CPU quota of the container."),
    "container_spec_cpu_shares": ("gauge", "CPU share of the container."),
    "container_spec_memory_limit_bytes": ("gauge", "Memory limit for the container."),
    "container_start_time_seconds": ("gauge", "Start time of the container since unix epoch in seconds."),
    "container_threads": ("gauge", "Number of threads running inside the container"),
    "machine_cpu_cores": ("gauge", "Number of logical CPU cores."),
    "machine_memory_bytes": ("gauge", "Amount of memory installed on the machine."),
    "machine_scrape_error": (
        "gauge",
        "1 if there was an error while getting machine metrics, 0 otherwise.",
    ),
    "machine_swap_bytes": ("gauge", "Amount of swap memory available on the machine."),
}

_Samples = defaultdict[str, list[Sample]]


def cadvisor_families(snapshot: Snapshot | None) -> list[Family]:
    """All families in the order of their names; None stands for a look that failed."""
    samples: _Samples = defaultdict(list)
    failed = Sample(0 if snapshot is not None else 1)
    samples["container_scrape_error"].append(failed)
    samples["machine_scrape_error"].append(failed)
    if snapshot is not None:
        _machine(samples, snapshot)
        for pod in snapshot.pods:
            _pod(samples, snapshot, pod)
    return [Family(name, kind, text, samples[name]) for name, (kind, text) in _FAMILIES.items()]


def _machine(samples: _Samples, snapshot: Snapshot) -> None:
    machine = snapshot.machine
    at = machine.measured_at
    samples["machine_cpu_cores"].append(Sample(machine.millicores / 1000, timestamp=at))
    samples["machine_memory_bytes"].append(Sample(machine.memory_capacity, timestamp=at))
    samples["machine_swap_bytes"].append(Sample(machine.swap_capacity or 0, timestamp=at))
    root, cpu = label_text(id="/"), label_text(cpu="total", id="/")
    samples["container_cpu_usage_seconds_total"].append(Sample(machine.cpu / SECOND, cpu, at))
    samples["container_memory_rss"].append(Sample(machine.anonymous, root, at))
    samples["container_memory_usage_bytes"].append(Sample(machine.memory_used, root, at))
    samples["container_memory_working_set_bytes"].append(Sample(machine.working_set, root, at))
    samples["container_last_seen"].append(Sample(int(at), root, at))
    samples["container_start_time_seconds"].append(Sample(int(machine.booted_at), root))


def _pod(samples: _Samples, snapshot: Snapshot, pod: PodSnapshot) -> None:
    meta = pod.entry.pod.metadata
    group = f"/kubepods/pod{meta.uid}"
    at = snapshot.at
    own = label_text(id=group, namespace=meta.namespace, pod=meta.name)
    cpu = label_text(cpu="total", id=group, namespace=meta.namespace, pod=meta.name)
    samples["container_cpu_usage_seconds_total"].append(Sample(pod.cpu / SECOND, cpu, at))
    samples["container_start_time_seconds"].append(Sample(int(pod.entry.started_at), own))
    samples["container_last_seen"].append(Sample(int(at), own, at))
    usages = [usage for _, usage in pod.containers]
    _memory(samples, own, at, usages)
    for container, usage in pod.containers:
        head = label_text(container=container.spec.name)
        tail = label_text(
            id=f"{group}/{container.id}",
            image=container.image_id or container.spec.image,
            name=container.id,
            namespace=meta.namespace,
            pod=meta.name,
        )
        labels = f"{head},{tail}"
        cpu = f'{head},cpu="total",{tail}'
        samples["container_cpu_usage_seconds_total"].append(Sample(usage.cpu / SECOND, cpu, at))
        samples["container_start_time_seconds"].append(Sample(container.started_at // SECOND, labels))
        samples["container_last_seen"].append(Sample(int(at), labels, at))
        samples["container_processes"].append(Sample(usage.processes, labels, at))
        samples["container_threads"].append(Sample(usage.threads, labels, at))
        _memory(samples, labels, at, [usage])
        for kind, count in (("pgfault", usage.page_faults), ("pgmajfault", usage.major_page_faults)):
            failures = f'{head},failure_type="{kind}",{tail},scope="container"'
            samples["container_memory_failures_total"].append(Sample(count, failures, at))
        if usage.disk is not None:
            capacity = snapshot.machine.container_file_system.capacity
            samples["container_fs_usage_bytes"].append(Sample(usage.disk, labels, at))
            samples["container_fs_limit_bytes"].append(Sample(capacity, labels, at))
        _spec(samples, labels, container.spec)


def _memory(samples: _Samples, labels: str, at: float, usages: list[Usage]) -> None:
    usage, rss = sum(usage.memory for usage in usages), sum(usage.rss for usage in usages)
    working_set = sum(usage.working_set for usage in usages)
    samples["container_memory_usage_bytes"].append(Sample(usage, labels, at))
    samples["container_memory_rss"].append(Sample(rss, labels, at))
    samples["container_memory_working_set_bytes"].append(Sample(working_set, labels, at))


def _spec(samples: _Samples, labels: str, spec: Container) -> None:
    """What the pod's spec asks for, in the units of control groups."""
    most = limit(spec, "cpu")
    asked = request(spec, "cpu") or most or 0
    shares = max(int(asked * _SHARES_PER_CORE), _MIN_SHARES)
    samples["container_spec_cpu_shares"].append(Sample(shares, labels))
    samples["container_spec_cpu_period"].append(Sample(_PERIOD, labels))
    if most is not None:
        samples["container_spec_cpu_quota"].append(Sample(int(most * _PERIOD), labels))
    memory = int(limit(spec, "memory") or 0)
    samples["container_spec_memory_limit_bytes"].append(Sample(memory, labels))
