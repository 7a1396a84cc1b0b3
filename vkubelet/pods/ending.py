"""How containers are ended: with how much grace, and in which order; pure.

It exists because every reason to end a container comes to the same two questions. The rules are the kubelet's
(setTerminationGracePeriod, newTerminationOrdering). It must not know how a process is ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vkubelet.api.objects import Pod
from vkubelet.pods.health import Unhealthy
from vkubelet.pods.observed import ContainerView, Eviction

MINIMUM_GRACE = 2
"""Seconds that a container gets in any case, for what it still has to write (minimumGracePeriodInSeconds)."""
DEFAULT_GRACE = 30

STOP_FILE = "vkubelet.dev/stop-file"
"""The annotation of a pod whose guests look for the file `/.vkubelet/stop`: they can be sent no signal."""


def grace_seconds(pod: Pod, unhealthy: Unhealthy | None = None, eviction: Eviction | None = None) -> int:
    """Seconds from the decision to end a container until it is killed, its preStop hook included."""
    if eviction is not None:
        return eviction.grace_seconds
    if pod.metadata.deletion_grace_period_seconds is not None:
        return pod.metadata.deletion_grace_period_seconds
    if unhealthy is not None and unhealthy.probe.termination_grace_period_seconds is not None:
        return unhealthy.probe.termination_grace_period_seconds
    grace = pod.spec.termination_grace_period_seconds
    return DEFAULT_GRACE if grace is None else grace


def wants_stop_file(pod: Pod) -> bool:
    """Whether the pod's containers are told by a file that they should end, and get their grace to do so."""
    return (pod.metadata.annotations or {}).get(STOP_FILE) == "true"


def signals_in_vain(pod: Pod) -> tuple[str, ...]:
    """The containers that ask for a stop signal of their own, which no wasm guest can be sent."""
    return tuple(
        container.name
        for container in pod.spec.all_containers()
        if container.lifecycle is not None and container.lifecycle.stop_signal
    )


def prerequisites(pod: Pod, name: str, views: Mapping[str, ContainerView]) -> tuple[str, ...]:
    """The running containers that must have ended before this one is stopped.

    A sidecar outlives the pod's own containers and the sidecars after it; nothing else waits.
    """
    sidecars = [container.name for container in pod.spec.init_containers or () if container.is_sidecar]
    if name not in sidecars:
        return ()
    later = sidecars[sidecars.index(name) + 1 :]
    own = [container.name for container in pod.spec.containers or ()]
    return tuple(_running([*own, *later], views))


def _running(names: Iterable[str], views: Mapping[str, ContainerView]) -> Iterable[str]:
    return (name for name in names if name in views and views[name].running is not None)
