"""A pod's conditions: those that a kubelet owns; pure.

It exists to hold the kubelet's condition generators (pkg/kubelet/status/generate.go). It must not know how
the containers' statuses came to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vkubelet.api.containers import Container
from vkubelet.api.objects import ContainerStatus, Pod, PodCondition
from vkubelet.api.times import rfc3339
from vkubelet.pods.starting_over import may_start_over

_COMPLETED = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}


def conditions(
    pod: Pod,
    statuses: Mapping[str, ContainerStatus],
    phase: str,
    now: float,
    *,
    mounted: bool,
    evicted: str | None = None,
    starting_over: bool = False,
) -> list[PodCondition]:
    """The conditions to report; PodScheduled and others' conditions are left alone.

    `mounted`: the pod's volumes are ready, which is what there is of a sandbox. `evicted` is the message of
    the eviction that ends a pod which is not to blame for it. `starting_over`: all containers are about to
    end and start again.
    """
    has_sandbox = mounted and phase in ("Pending", "Running")
    made = [
        PodCondition(type="PodReadyToStartContainers", status="True" if has_sandbox else "False"),
        _initialized(pod, statuses, phase),
        _ready(pod, "Ready", statuses, phase),
        _ready(pod, "ContainersReady", statuses, phase),
    ]
    if made[2].status == "True":
        made[2] = _readiness_gates(pod) or made[2]
    if evicted is not None:
        made.append(
            PodCondition(
                type="DisruptionTarget", status="True", reason="TerminationByKubelet", message=evicted
            )
        )
    if may_start_over(pod):
        made.append(_starting_over(phase, starting_over))
    known = {condition.type: condition for condition in pod.status.conditions or ()}
    for condition in made:
        before = known.get(condition.type)
        same = before is not None and before.status == condition.status
        condition.last_transition_time = (
            before.last_transition_time if same and before is not None else rfc3339(now)
        )
        condition.observed_generation = pod.metadata.generation
    return made


def _initialized(pod: Pod, statuses: Mapping[str, ContainerStatus], phase: str) -> PodCondition:
    incomplete = [
        container.name
        for container in pod.spec.init_containers or ()
        if not _is_initialized(container, statuses[container.name])
    ]
    if phase == "Succeeded":
        return PodCondition(type="Initialized", status="True", reason="PodCompleted")
    if not incomplete or _has_started(statuses[container.name] for container in pod.spec.containers or ()):
        return PodCondition(type="Initialized", status="True")
    message = f"containers with incomplete status: [{' '.join(incomplete)}]"
    return PodCondition(
        type="Initialized", status="False", reason="ContainersNotInitialized", message=message
    )


def _starting_over(phase: str, is_under_way: bool) -> PodCondition:
    if phase in _COMPLETED:
        return PodCondition(type="AllContainersRestarting", status="False", reason=_COMPLETED[phase])
    if not is_under_way:
        return PodCondition(type="AllContainersRestarting", status="False")
    return PodCondition(
        type="AllContainersRestarting",
        status="True",
        reason="RestartAllContainersStarted",
        message="container exited with restart policy rule",
    )


def _is_initialized(container: Container, status: ContainerStatus) -> bool:
    return bool(status.started) if container.is_sidecar else status.ready


def _has_started(statuses: Iterable[ContainerStatus]) -> bool:
    """The kubelet's HasAnyRegularContainerStarted: one runs, or has ended."""
    return any(
        status.state.running is not None
        or status.state.terminated is not None
        or status.last_state.terminated is not None
        for status in statuses
    )


def _ready(pod: Pod, kind: str, statuses: Mapping[str, ContainerStatus], phase: str) -> PodCondition:
    if phase in _COMPLETED:
        return PodCondition(type=kind, status="False", reason=_COMPLETED[phase])
    sidecars = [container for container in pod.spec.init_containers or () if container.is_sidecar]
    counted = [*sidecars, *(pod.spec.containers or ())]
    unready = [container.name for container in counted if not statuses[container.name].ready]
    if not unready:
        return PodCondition(type=kind, status="True")
    message = f"containers with unready status: [{' '.join(unready)}]"
    return PodCondition(type=kind, status="False", reason="ContainersNotReady", message=message)


def _readiness_gates(pod: Pod) -> PodCondition | None:
    """The Ready condition that an unmet readiness gate asks for, with the kubelet's message."""
    by_type = {condition.type: condition.status for condition in pod.status.conditions or ()}
    messages = []
    for gate in pod.spec.readiness_gates or ():
        kind = gate.condition_type
        if kind not in by_type:
            messages.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif by_type[kind] != "True":
            messages.append(f'the status of pod readiness gate "{kind}" is not "True", but {by_type[kind]}')
    if not messages:
        return None
    return PodCondition(
        type="Ready", status="False", reason="ReadinessGatesNotReady", message=", ".join(messages)
    )
