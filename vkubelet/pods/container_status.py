"""The status of one container; pure.

It exists apart from the pod's because it has rules of its own (the kubelet's convertToAPIContainerStatuses
and the prober's UpdatePodStatus). It must not know other containers.
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
    Pod,
    VolumeMountStatus,
)
from vkubelet.api.times import rfc3339
from vkubelet.pods.health import is_ready, is_started
from vkubelet.pods.observed import SECOND, Attempt, ContainerView
from vkubelet.pods.restarts import should_restart
from vkubelet.pods.security import shown_user
from vkubelet.pods.starting_over import MESSAGE, REASON

RUNTIME = "wasmtime"

_TERMINATED_REASONS = {
    ExitReason.COMPLETED: "Completed",
    ExitReason.OUT_OF_MEMORY: "OOMKilled",
    ExitReason.CANNOT_RUN: "StartError",
}


def container_status(
    pod: Pod, container: Container, view: ContainerView, *, stopped: bool
) -> ContainerStatus:
    """The status of a container of the pod; `stopped`: nothing of the pod will run again."""
    state, last = _states(pod, container, view, stopped=stopped)
    latest = view.latest
    status = ContainerStatus(
        name=container.name,
        state=state,
        last_state=last,
        ready=is_ready(container, view),
        started=is_started(container, view),
        restart_count=0 if latest is None else latest.number,
        image=container.image if latest is None or not latest.image else latest.image,
        image_id="" if latest is None else latest.image_id,
        container_id="" if latest is None else container_id(latest.id),
    )
    if latest is not None and latest.user is not None:
        status.user = shown_user(latest.user)
    if container.volume_mounts:
        status.volume_mounts = _mounts_of(container)
    return status


def init_status(pod: Pod, container: Container, view: ContainerView) -> ContainerStatus:
    """That of an init container: ready once it has succeeded, or, as a sidecar, like any other."""
    status = container_status(pod, container, view, stopped=False)
    if not container.is_sidecar:
        end = status.state.terminated
        status.ready = end is not None and end.exit_code == 0
    return status


def ephemeral_status(
    pod: Pod, container: Container, view: ContainerView, *, stopped: bool
) -> ContainerStatus:
    """That of an ephemeral container, which is never ready: the kubelet's UpdatePodStatus leaves them out."""
    status = container_status(pod, container, view, stopped=stopped)
    status.ready, status.started = False, None
    return status


def container_id(identifier: str) -> str:
    """A container's id as the API shows it: `runtime://id`."""
    return f"{RUNTIME}://{identifier}" if identifier else ""


def terminated_reason(reason: ExitReason) -> str:
    """Why a container has ended, in the kubelet's words."""
    return _TERMINATED_REASONS.get(reason, "Error")


def _mounts_of(container: Container) -> list[VolumeMountStatus]:
    """status.containerStatuses[].volumeMounts: what the container's mounts have come to."""
    return [
        VolumeMountStatus(
            name=mount.name,
            mount_path=mount.mount_path,
            read_only=mount.read_only,
            # What is read-only for a guest is so with all that is mounted below: it has no mounts of its own.
            recursive_read_only=_recursive(mount.recursive_read_only) if mount.read_only else None,
        )
        for mount in container.volume_mounts or ()
    ]


def _recursive(asked: str | None) -> str:
    return "Enabled" if asked in ("Enabled", "IfPossible") else "Disabled"


def _states(
    pod: Pod, container: Container, view: ContainerView, *, stopped: bool
) -> tuple[ContainerState, ContainerState]:
    """Its state and its last one."""
    latest, last = view.latest, _terminated(view.previous)
    if latest is None:
        return _never_started(pod, view, stopped=stopped), last
    if latest.exit is None:
        if view.starting:  # its process is there, but the postStart hook is not done
            return _creating(pod), last
        started_at = rfc3339(latest.started_at / SECOND)
        return ContainerState(running=ContainerStateRunning(started_at=started_at)), last
    if view.waiting is None and not stopped and (view.restart or latest.reset):
        # Whatever its policy: the API server lets none come back that was said to have ended for good.
        return _coming_back(pod, latest), _terminated(latest)
    if view.waiting is not None and not stopped and should_restart(pod, container, view):
        waiting = ContainerStateWaiting(reason=view.waiting.reason, message=view.waiting.message)
        return ContainerState(waiting=waiting), _terminated(latest)
    return _terminated(latest), last


def _never_started(pod: Pod, view: ContainerView, *, stopped: bool) -> ContainerState:
    if stopped:
        return ContainerState(
            terminated=ContainerStateTerminated(
                exit_code=137,
                reason="ContainerStatusUnknown",
                message="The container could not be located when the pod was terminated",
            )
        )
    if view.waiting is None:
        return _creating(pod)
    return ContainerState(
        waiting=ContainerStateWaiting(reason=view.waiting.reason, message=view.waiting.message)
    )


def _coming_back(pod: Pod, latest: Attempt) -> ContainerState:
    if latest.reset:
        return ContainerState(waiting=ContainerStateWaiting(reason=REASON, message=MESSAGE))
    return _creating(pod)


def _creating(pod: Pod) -> ContainerState:
    reason = "PodInitializing" if pod.spec.init_containers else "ContainerCreating"
    return ContainerState(waiting=ContainerStateWaiting(reason=reason))


def _terminated(attempt: Attempt | None) -> ContainerState:
    if attempt is None or attempt.exit is None:
        return ContainerState()
    end = attempt.exit
    return ContainerState(
        terminated=ContainerStateTerminated(
            exit_code=end.code,
            signal=end.signal,
            reason=REASON if attempt.reset else terminated_reason(end.reason),
            message=MESSAGE if attempt.reset else end.message,
            started_at=rfc3339((end.started_at or attempt.started_at) / SECOND),
            finished_at=rfc3339(end.finished_at / SECOND),
            container_id=container_id(attempt.id),
        )
    )
