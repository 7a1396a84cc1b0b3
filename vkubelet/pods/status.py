"""A pod's status: a pure function of the pod, what was observed and the clock.

It exists beside `plan` so that what the node reports follows from the same observations that it acts on.
The rules are the kubelet's (getPhase, convertToAPIContainerStatuses, the condition generators). It must
not know how a status is sent.
"""

from __future__ import annotations

from providers.base import ExitReason
from vkubelet.api.containers import Container
from vkubelet.api.objects import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    HostIP,
    Pod,
    PodCondition,
    PodStatus,
)
from vkubelet.api.times import rfc3339
from vkubelet.pods.observed import Attempt, ContainerView, Observed, StopCause
from vkubelet.pods.plan import SECOND, TERMINAL_PHASES, should_restart, stop_cause
from vkubelet.pods.qos import qos_class

RUNTIME = "wasmtime"

_TERMINATED_REASONS = {
    ExitReason.COMPLETED: "Completed",
    ExitReason.OUT_OF_MEMORY: "OOMKilled",
    ExitReason.CANNOT_RUN: "StartError",
}

# Phase Failed, and why, for a pod that was ended by the node; messages are the kubelet's.
_STOPPED = {
    StopCause.DEADLINE: (
        "DeadlineExceeded",
        "Pod was active on the node longer than the specified deadline",
    ),
    StopCause.SHUTDOWN: (
        "Terminated",
        "Pod was terminated in response to imminent node shutdown.",
    ),
}


def pod_status(pod: Pod, observed: Observed, host_ip: str, now: float) -> PodStatus:
    """The status to report. `pod.status` gives the conditions whose transition times are kept."""
    stop = stop_cause(pod, observed, now)
    stopped = stop is not None and not any(
        view.running or view.starting for view in observed.containers.values()
    )
    if observed.rejection is not None:
        return PodStatus(
            phase="Failed",
            reason=observed.rejection.reason,
            message=f"Pod was rejected: {observed.rejection.message}",
            start_time=rfc3339(observed.started_at),
            qos_class=qos_class(pod),
            observed_generation=pod.metadata.generation,
        )
    containers = pod.spec.containers or []
    statuses = [
        _container_status(pod, container, observed.containers.get(container.name, ContainerView()), stopped)
        for container in containers
    ]
    phase = _phase(pod, statuses, stopped)
    reason, message = pod.status.reason, pod.status.message
    if pod.status.phase in TERMINAL_PHASES:
        phase = pod.status.phase  # a terminal phase is never left
    elif stop in _STOPPED:
        reason, message = _STOPPED[stop]
        phase = "Failed" if stopped else phase
    return PodStatus(
        phase=phase,
        reason=reason,
        message=message,
        conditions=_conditions(pod, statuses, phase, now),
        host_ip=host_ip,
        host_ips=[HostIP(ip=host_ip)],
        pod_ip=host_ip,
        pod_ips=[HostIP(ip=host_ip)],
        start_time=rfc3339(observed.started_at),
        container_statuses=statuses,
        ephemeral_container_statuses=_ephemeral_statuses(pod, observed, stopped),
        qos_class=qos_class(pod),
        observed_generation=pod.metadata.generation,
    )


def _container_status(pod: Pod, container: Container, view: ContainerView, stopped: bool) -> ContainerStatus:
    latest, previous = view.latest, view.previous
    last = _terminated(previous)
    if latest is None:
        state = _never_started(view, stopped)
    elif latest.exit is None:
        started_at = rfc3339(latest.started_at / SECOND)
        state = ContainerState(running=ContainerStateRunning(started_at=started_at))
    elif view.waiting is not None and not stopped and should_restart(pod, container, latest):
        waiting = ContainerStateWaiting(reason=view.waiting.reason, message=view.waiting.message)
        state, last = ContainerState(waiting=waiting), _terminated(latest)
    else:
        state = _terminated(latest)
    running = state.running is not None
    return ContainerStatus(
        name=container.name,
        state=state,
        last_state=last,
        ready=running,
        started=running,
        restart_count=0 if latest is None else latest.number,
        image=container.image,
        image_id="" if latest is None else latest.image_id,
        container_id="" if latest is None else container_id(latest.id),
    )


def _ephemeral_statuses(pod: Pod, observed: Observed, stopped: bool) -> list[ContainerStatus] | None:
    """Those of ephemeral containers, which are never ready: the kubelet's UpdatePodStatus leaves them out."""
    statuses = []
    for container in pod.spec.ephemeral_containers or ():
        view = observed.containers.get(container.name, ContainerView())
        status = _container_status(pod, container, view, stopped)
        status.ready, status.started = False, None
        statuses.append(status)
    return statuses or None


def container_id(identifier: str) -> str:
    """A container's id as the API shows it: `runtime://id`."""
    return f"{RUNTIME}://{identifier}" if identifier else ""


def _never_started(view: ContainerView, stopped: bool) -> ContainerState:
    if stopped:
        return ContainerState(
            terminated=ContainerStateTerminated(
                exit_code=137,
                reason="ContainerStatusUnknown",
                message="The container could not be located when the pod was terminated",
            )
        )
    if view.waiting is None:
        return ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))
    return ContainerState(
        waiting=ContainerStateWaiting(reason=view.waiting.reason, message=view.waiting.message)
    )


def terminated_reason(reason: ExitReason) -> str:
    """Why a container has ended, in the kubelet's words."""
    return _TERMINATED_REASONS.get(reason, "Error")


def _terminated(attempt: Attempt | None) -> ContainerState:
    if attempt is None or attempt.exit is None:
        return ContainerState()
    end = attempt.exit
    return ContainerState(
        terminated=ContainerStateTerminated(
            exit_code=end.code,
            signal=end.signal,
            reason=terminated_reason(end.reason),
            message=end.message,
            started_at=rfc3339((end.started_at or attempt.started_at) / SECOND),
            finished_at=rfc3339(end.finished_at / SECOND),
            container_id=container_id(attempt.id),
        )
    )


def _phase(pod: Pod, statuses: list[ContainerStatus], stopped: bool) -> str:
    """The kubelet's getPhase. `stopped`: the pod is terminal, nothing of it will start again."""
    waiting = running = ended = succeeded = final = 0
    for container, status in zip(pod.spec.containers or (), statuses, strict=True):
        end = status.state.terminated
        if status.state.running is not None:
            running += 1
        elif end is not None or status.last_state.terminated is not None:
            last = end or status.last_state.terminated
            ended += 1
            succeeded += end is not None and end.exit_code == 0
            final += last is not None and not _restarts(pod, container, last.exit_code)
        else:
            waiting += 1
    if waiting or not statuses:
        return "Pending"
    if running:
        return "Running"
    if not stopped and final != ended:
        return "Running"  # some are about to be restarted
    return "Succeeded" if succeeded == ended else "Failed"


def _restarts(pod: Pod, container: Container, code: int) -> bool:
    policy = container.restart_policy or pod.spec.restart_policy
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def _conditions(pod: Pod, statuses: list[ContainerStatus], phase: str, now: float) -> list[PodCondition]:
    """The conditions a kubelet owns; PodScheduled and others' conditions are left alone."""
    initialized = PodCondition(
        type="Initialized", status="True", reason="PodCompleted" if phase == "Succeeded" else ""
    )
    made = [
        PodCondition(type="PodReadyToStartContainers", status="True" if _has_sandbox(phase) else "False"),
        initialized,
        _ready_condition("Ready", statuses, phase),
        _ready_condition("ContainersReady", statuses, phase),
    ]
    if made[2].status == "True":
        made[2] = _readiness_gates(pod) or made[2]
    known = {condition.type: condition for condition in pod.status.conditions or ()}
    for condition in made:
        before = known.get(condition.type)
        same = before is not None and before.status == condition.status
        condition.last_transition_time = (
            before.last_transition_time if same and before is not None else rfc3339(now)
        )
        condition.observed_generation = pod.metadata.generation
    return made


def _has_sandbox(phase: str) -> bool:
    return phase in ("Pending", "Running")


def _ready_condition(kind: str, statuses: list[ContainerStatus], phase: str) -> PodCondition:
    if phase in ("Succeeded", "Failed"):
        reason = "PodCompleted" if phase == "Succeeded" else "PodFailed"
        return PodCondition(type=kind, status="False", reason=reason)
    unready = [status.name for status in statuses if not status.ready]
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
