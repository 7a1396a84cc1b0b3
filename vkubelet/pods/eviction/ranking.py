"""Which pod goes first, and what it is told: pure functions of what pods ask for and use.

It exists so that the kubelet's order (usage beyond requests, priority, usage) can be tried by tables and
Hypothesis. It must not know thresholds' history, nor how usage is measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from decimal import Decimal
from typing import TypeAlias

from vkubelet.api.objects import Pod
from vkubelet.pods.eviction.thresholds import INODES, MEMORY, PIDS, STORAGE, Observations, Threshold
from vkubelet.pods.resources import POD_LEVEL, Amounts, limit, pod_limits, pod_requests, request
from vkubelet.pods.text import amount_text


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerUsage:
    """What a running container uses, in bytes: memory that cannot be taken back, its root and its logs."""

    name: str
    memory: int
    root: int
    logs: int

    @property
    def storage(self) -> int:
        """Bytes on disk."""
        return self.root + self.logs


@dataclasses.dataclass(frozen=True, slots=True)
class PodUsage:
    """What a pod uses. `volumes` is bytes in volumes of its own on disk; `inodes` are of everything."""

    containers: tuple[ContainerUsage, ...]
    volumes: int = 0
    inodes: int = 0
    processes: int = 0

    def of(self, resource: str) -> int:
        """The amount of one resource."""
        match resource:
            case "memory":
                return sum(one.memory for one in self.containers)
            case "ephemeral-storage":
                return self.volumes + sum(one.storage for one in self.containers)
            case "inodes":
                return self.inodes
        return self.processes


Candidate: TypeAlias = tuple[Pod, PodUsage]
"""A pod that may be evicted, with its usage."""


def ranked(resource: str, candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates in the order in which they are to be evicted."""
    return sorted(candidates, key=lambda one: _rank(resource, *one))


def low_message(
    resource: str, candidate: Candidate, due: Iterable[Threshold], observations: Observations
) -> str:
    """Why a pod is evicted when the node lacks a resource (evictionMessage)."""
    pod, usage = candidate
    parts = [f"The node was low on resource: {resource}. "]
    for threshold in due:
        observed = observations.get(threshold.signal)
        if threshold.resource == resource and observed is not None:
            wanted = amount_text(Decimal(threshold.below.of(observed.capacity)))
            available = amount_text(Decimal(observed.available))
            parts.append(f"Threshold quantity: {wanted}, available: {available}. ")
            break
    if resource not in (MEMORY, STORAGE):
        return "".join(parts)
    whole = pod.spec.resources.requests if pod.spec.resources is not None else None
    if resource in (whole or {}) and resource in POD_LEVEL:
        asked = pod_requests(pod)[resource]
        parts.append(_consumption(f"Pod {pod.metadata.name}", usage.of(resource), asked, resource))
    used = {one.name: one.memory if resource == MEMORY else one.storage for one in usage.containers}
    for container in (*(pod.spec.containers or ()), *(pod.spec.init_containers or ())):
        asked = request(container, resource) or Decimal()
        if used.get(container.name, 0) > asked:
            parts.append(_consumption(f"Container {container.name}", used[container.name], asked, resource))
    return "".join(parts)


def limit_message(pod: Pod, usage: PodUsage) -> str | None:
    """Why a pod is evicted for its own limits of ephemeral storage; None if it keeps them."""
    bound = pod_limits(pod).get(STORAGE)
    if bound is not None and usage.of(STORAGE) > bound:
        return (
            f"Pod ephemeral local storage usage exceeds the total limit of containers {amount_text(bound)}. "
        )
    used = {one.name: one.storage for one in usage.containers}
    sidecars = [container for container in pod.spec.init_containers or () if container.is_sidecar]
    for container in (*(pod.spec.containers or ()), *sidecars):
        own = limit(container, STORAGE)
        if own and used.get(container.name, 0) > own:
            text = amount_text(own)
            return f'Container {container.name} exceeded its local ephemeral storage limit "{text}". '
    return None


def has_storage_limit(pod: Pod) -> bool:
    """Whether `limit_message` can be other than None, so that usage must be looked at."""
    return STORAGE in pod_limits(pod)


def _rank(resource: str, pod: Pod, usage: PodUsage) -> tuple[bool, int, Decimal]:
    """Less goes first."""
    priority = pod.spec.priority or 0
    if resource == PIDS:
        return False, priority, Decimal(-usage.processes)
    amounts: Amounts = pod_requests(pod)
    asked = Decimal() if resource == INODES else amounts.get(resource, Decimal())
    used = Decimal(usage.of(resource))
    return used <= asked, priority, asked - used


def _consumption(who: str, used: int, asked: Decimal, resource: str) -> str:
    return (
        f"{who} was using {amount_text(Decimal(used))}, request is {amount_text(asked)}, "
        f"has larger consumption of {resource}. "
    )
