"""A pod's phase; a pure function of its containers' statuses (the kubelet's getPhase).

It exists alone because the whole of a pod's life is in it. It must not know how statuses are made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from vkubelet.api.containers import Container
from vkubelet.api.objects import ContainerStatus, Pod
from vkubelet.pods.restarts import restarts_after

TERMINAL_PHASES = ("Succeeded", "Failed")


@dataclasses.dataclass(slots=True)
class _Counts:
    waiting: int = 0
    running: int = 0
    stopped: int = 0
    succeeded: int = 0
    final: int = 0


def phase(
    pod: Pod,
    statuses: Mapping[str, ContainerStatus],
    *,
    stopped: bool,
    initialized: bool,
    again: Collection[str] = (),
) -> str:
    """The phase of a pod whose containers have these statuses, by name.

    `stopped`: the pod must not run, and nothing of it does. `initialized`: one of its own containers has been
    started since the node's boot. `again` are those that run again whatever came of them.
    """
    pending = 0
    for container in pod.spec.init_containers or ():
        status = statuses[container.name]
        if container.is_sidecar:
            pending += not initialized and _sidecar_is_pending(status)
        elif container.name not in again and _failed_for_good(pod, container, status):
            return "Failed"
        else:
            pending += _init_is_pending(status)
    counts = _count(pod, statuses, again)
    if pending or counts.waiting or not pod.spec.containers:
        return "Pending"
    if counts.running:
        return "Running"
    if not stopped and counts.final != counts.stopped:
        return "Running"  # some are about to be restarted
    return "Succeeded" if counts.succeeded == counts.stopped else "Failed"


def _count(pod: Pod, statuses: Mapping[str, ContainerStatus], again: Collection[str]) -> _Counts:
    counts = _Counts()
    for container in pod.spec.init_containers or ():
        # A sidecar that has ended does not count.
        status = statuses[container.name]
        if container.is_sidecar:
            counts.running += status.state.running is not None
            counts.waiting += _never_ran(status)
    for container in pod.spec.containers or ():
        status = statuses[container.name]
        end = status.state.terminated
        last = end or status.last_state.terminated
        if status.state.running is not None:
            counts.running += 1
        elif last is None:
            counts.waiting += 1
        else:
            counts.stopped += 1
            counts.succeeded += end is not None and end.exit_code == 0
            comes_again = container.name in again or restarts_after(pod, container, last.exit_code)
            counts.final += not comes_again
    return counts


def _never_ran(status: ContainerStatus) -> bool:
    state = status.state
    return state.running is None and state.terminated is None and status.last_state.terminated is None


def _sidecar_is_pending(status: ContainerStatus) -> bool:
    return _never_ran(status) or (status.state.running is not None and not status.started)


def _init_is_pending(status: ContainerStatus) -> bool:
    return status.state.running is not None or _never_ran(status)


def _failed_for_good(pod: Pod, container: Container, status: ContainerStatus) -> bool:
    if status.state.running is not None:
        return False
    end = status.state.terminated or status.last_state.terminated
    return end is not None and end.exit_code != 0 and not restarts_after(pod, container, end.exit_code)
