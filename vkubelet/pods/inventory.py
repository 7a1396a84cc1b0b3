"""What is on this node, for those who measure and list it: the interface between the server and the pods.

It exists because the server may know the pods' side but not the other way round: statistics and lists ask
through `Inventory`, and the workers' side answers from what it knows, as values of that moment. It must not
know HTTP, formats, or how anything is measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod
from vkubelet.pods.observed import ContainerView


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerEntry:
    """A container that was started: its latest attempt. `started_at` is ns since the epoch."""

    spec: Container
    id: str
    image_id: str
    started_at: int
    running: bool


@dataclasses.dataclass(frozen=True, slots=True)
class PodEntry:
    """A pod that this node has taken. `started_at` is when, in seconds since the epoch."""

    pod: Pod
    started_at: float
    containers: tuple[ContainerEntry, ...]


class Inventory(Protocol):
    """What the kubelet API may ask about the node's pods."""

    def pods(self) -> list[PodEntry]:
        """All of them, those included whose containers have ended."""
        ...


def pod_entry(pod: Pod, started_at: float, views: Mapping[str, ContainerView]) -> PodEntry:
    """The entry of a pod whose containers are seen as `views`."""
    containers = []
    for spec in pod.spec.all_containers():
        view = views.get(spec.name)
        if view is not None and view.latest is not None:
            attempt = view.latest
            containers.append(
                ContainerEntry(
                    spec, attempt.id, attempt.image_id, attempt.started_at, running=attempt.exit is None
                )
            )
    return PodEntry(pod, started_at, tuple(containers))
