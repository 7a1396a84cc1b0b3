"""A pod's status: a pure function of the pod, what was observed and the clock.

It exists beside `plan` so that what the node reports follows from the same observations that it acts on. It
puts together what containers, phase and conditions come to. It must not know how a status is sent.
"""

from __future__ import annotations

from vkubelet.api.objects import ContainerStatus, HostIP, Pod, PodStatus
from vkubelet.api.times import rfc3339
from vkubelet.pods.conditions import conditions
from vkubelet.pods.container_status import container_status, ephemeral_status, init_status
from vkubelet.pods.observed import ContainerView, Observed, ResizeView, StopCause
from vkubelet.pods.phase import TERMINAL_PHASES, phase
from vkubelet.pods.plan import stop_cause
from vkubelet.pods.qos import qos_class
from vkubelet.pods.resize import shown_resources, whole_resources
from vkubelet.pods.starting_over import sources

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

_NOT_SEEN = ContainerView()


def pod_status(pod: Pod, observed: Observed, host_ip: str, now: float) -> PodStatus:
    """The status to report at `now`, by the clock of decisions.

    `pod.status` gives the conditions whose transition times are kept.
    """
    if observed.rejection is not None:
        return PodStatus(
            phase="Failed",
            reason=observed.rejection.reason,
            message=f"Pod was rejected: {observed.rejection.message}",
            start_time=rfc3339(observed.started_at),
            qos_class=qos_class(pod),
            observed_generation=pod.metadata.generation,
        )
    stop = stop_cause(pod, observed, now)
    stopped = stop is not None and not any(
        view.running or view.starting for view in observed.containers.values()
    )

    view = observed.containers
    init = [init_status(pod, item, view.get(item.name, _NOT_SEEN)) for item in pod.spec.init_containers or ()]
    # What was to come after the init containers was never about to run: it is not lost.
    lost = stopped and all(status.started or status.ready for status in init)
    own = [
        container_status(pod, item, view.get(item.name, _NOT_SEEN), stopped=lost)
        for item in pod.spec.containers or ()
    ]
    debugging = [
        ephemeral_status(pod, item, view.get(item.name, _NOT_SEEN), stopped=stopped)
        for item in pod.spec.ephemeral_containers or ()
    ]
    by_name = {status.name: status for status in (*init, *own)}
    _show_resources(pod, observed.resize, by_name)
    allocated, resources = whole_resources(pod, observed.resize)
    now_in, reason, message = _phase(pod, observed, by_name, stop, stopped=stopped)
    return PodStatus(
        phase=now_in,
        reason=reason,
        message=message,
        conditions=[
            *conditions(
                pod,
                by_name,
                now_in,
                now + observed.ahead,
                mounted=observed.volumes.mounted,
                evicted=None if observed.eviction is None else observed.eviction.disruption,
                starting_over=stop is None and bool(sources(pod, observed.containers)),
            ),
            *(() if observed.resize is None or now_in in TERMINAL_PHASES else observed.resize.conditions),
        ],
        host_ip=host_ip,
        host_ips=[HostIP(ip=host_ip)],
        pod_ip=host_ip,
        pod_ips=[HostIP(ip=host_ip)],
        start_time=rfc3339(observed.started_at),
        init_container_statuses=init or None,
        container_statuses=own or None,
        ephemeral_container_statuses=debugging or None,
        qos_class=qos_class(pod),
        allocated_resources=allocated,
        resources=resources,
        observed_generation=pod.metadata.generation,
    )


def _runs_again(view: ContainerView) -> bool:
    """Whether a container is being started, or will be whatever its last end was."""
    return view.starting or view.restart or (view.latest is not None and view.latest.reset)


def _show_resources(pod: Pod, resize: ResizeView | None, statuses: dict[str, ContainerStatus]) -> None:
    """What each container that was ever made has been granted, and what it is held to."""
    for container in (*(pod.spec.init_containers or ()), *(pod.spec.containers or ())):
        status = statuses[container.name]
        if not status.container_id:
            continue
        held_to = resize.applied.get(container.name) if resize is not None else None
        running = status.state.running is not None
        status.resources = shown_resources(container, held_to if running else None)
        if container.resources.requests:
            status.allocated_resources = container.resources.requests


def _phase(
    pod: Pod,
    observed: Observed,
    by_name: dict[str, ContainerStatus],
    stop: StopCause | None,
    *,
    stopped: bool,
) -> tuple[str, str, str]:
    """Phase, reason and message. A terminal phase is never left."""
    reason, message = pod.status.reason, pod.status.message
    if pod.status.phase in TERMINAL_PHASES:
        return pod.status.phase, reason, message
    own = [observed.containers.get(container.name) for container in pod.spec.containers or ()]
    initialized = any(view is not None and view.latest and not view.latest.past for view in own)
    again = [] if stopped else [name for name, view in observed.containers.items() if _runs_again(view)]
    found = phase(pod, by_name, stopped=stopped, initialized=initialized, again=again)
    if stopped and found not in TERMINAL_PHASES:
        found = "Failed"  # it ended before all of it could start (the status manager's TerminatePod)
    if stop is StopCause.EVICTED and observed.eviction is not None:
        return "Failed" if stopped else found, observed.eviction.reason, observed.eviction.message
    if stop in _STOPPED:
        return "Failed" if stopped else found, *_STOPPED[stop]
    return found, reason, message
