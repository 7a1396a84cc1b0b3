"""`/metrics`: what a kubelet tells of its own work: what was counted, and how many pods there are now.

It exists as pure functions. It must not know requests, nor who counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from vkubelet.meters import Family, Sample, gauge, label_text
from vkubelet.pods.fit import is_static
from vkubelet.pods.inventory import PodEntry
from vkubelet.pods.phase import TERMINAL_PHASES
from vkubelet.server.metrics.logs import LogSizes


def inventory_families(node: str, entries: Iterable[PodEntry], logs: LogSizes) -> list[Family]:
    """The gauges that follow from what is on the node, and the sizes of its logs."""
    found = list(entries)
    states = Counter(
        "running" if container.running else "exited" for entry in found for container in entry.containers
    )
    running = sum(any(container.running for container in entry.containers) for entry in found)
    active = [entry for entry in found if entry.pod.status.phase not in TERMINAL_PHASES]
    ephemeral = sum(len(entry.pod.spec.ephemeral_containers or ()) for entry in found)
    return [
        gauge(
            "kubelet_active_pods",
            "[ALPHA] The number of pods the kubelet considers active and which are being considered when "
            "admitting new pods. static is true if the pod is not from the apiserver.",
            _by_source(active),
        ),
        gauge(
            "kubelet_container_log_filesystem_used_bytes",
            "[ALPHA] Bytes used by the container's logs on the filesystem.",
            _log_samples(found, logs),
        ),
        gauge(
            "kubelet_desired_pods",
            "[ALPHA] The number of pods the kubelet is being instructed to run. static is true if the pod "
            "is not from the apiserver.",
            _by_source(found),
        ),
        gauge(
            "kubelet_managed_ephemeral_containers",
            "[ALPHA] Current number of ephemeral containers in pods managed by this kubelet.",
            [Sample(ephemeral)],
        ),
        gauge(
            "kubelet_mirror_pods",
            "[ALPHA] The number of mirror pods the kubelet will try to create (one per admitted static pod)",
            [Sample(sum(is_static(entry.pod) for entry in found))],
        ),
        gauge(
            "kubelet_node_name",
            "[ALPHA] The node's name. The count is always 1.",
            [Sample(1, label_text(node=node))],
        ),
        gauge(
            "kubelet_running_containers",
            "[ALPHA] Number of containers currently running",
            [Sample(count, label_text(container_state=state)) for state, count in sorted(states.items())],
        ),
        gauge(
            "kubelet_running_pods",
            "[ALPHA] Number of pods that have a running pod sandbox",
            [Sample(running)],
        ),
    ]


def _by_source(entries: Iterable[PodEntry]) -> list[Sample]:
    """How many are an API server's, and how many this node's own."""
    counts = Counter("true" if is_static(entry.pod) else "" for entry in entries)
    return [Sample(counts[static], label_text(static=static)) for static in ("", "true")]


def _log_samples(entries: Iterable[PodEntry], logs: LogSizes) -> list[Sample]:
    samples = []
    for entry in entries:
        meta = entry.pod.metadata
        for container in entry.containers:
            size = logs.get((meta.uid, container.spec.name))
            if size is not None:
                labels = label_text(
                    container=container.spec.name, namespace=meta.namespace, pod=meta.name, uid=meta.uid
                )
                samples.append(Sample(size.size, labels))
    return samples
