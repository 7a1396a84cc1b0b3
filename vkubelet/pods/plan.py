"""What to do next for a pod: a pure function of its spec, what was observed and the clock.

It exists so that the hard semantics of a kubelet (restart policy, crash back-off, deletion, deadline) are
in one place that tables and Hypothesis can try without a process or a server. It must not await, read a
file or ask the time; workers carry its actions out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TypeAlias

from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod
from vkubelet.pods.backoff import go_duration
from vkubelet.pods.observed import Attempt, ContainerView, Observed, StopCause, Waiting
from vkubelet.pods.text import pod_text

SECOND = 1_000_000_000
# How long a failed pull is shown as ErrImagePull before it turns to ImagePullBackOff: one sync of a kubelet.
PULL_ERROR_SHOWN = 1.0
TERMINAL_PHASES = ("Succeeded", "Failed")


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """Start attempt `number` of a container."""

    container: Container
    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class Kill:
    """End a running container."""

    container: str
    id: str


@dataclasses.dataclass(frozen=True, slots=True)
class CancelStart:
    """Give up a start that is under way."""

    container: str


@dataclasses.dataclass(frozen=True, slots=True)
class BackOff:
    """Note that a container waits for its crash back-off."""

    container: str
    waiting: Waiting


Action: TypeAlias = Start | Kill | CancelStart | BackOff


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Actions to take now, when to look again without news (None: only on news), and the pod's end.

    `stop` is set while the pod must not run; `ended` when nothing of it runs or is being started and
    nothing ever will.
    """

    actions: tuple[Action, ...] = ()
    wake_at: float | None = None
    stop: StopCause | None = None
    ended: bool = False


def stop_cause(pod: Pod, observed: Observed, now: float) -> StopCause | None:
    """Why the pod must not run, the strongest cause first; None when it may."""
    if observed.gone:
        return StopCause.GONE
    if pod.metadata.deletion_timestamp is not None:
        return StopCause.DELETED
    if pod.status.phase in TERMINAL_PHASES:
        return StopCause.TERMINAL
    if observed.rejection is not None:
        return StopCause.REJECTED
    deadline = pod.spec.active_deadline_seconds
    if deadline is not None and now >= observed.started_at + deadline:
        return StopCause.DEADLINE
    return StopCause.SHUTDOWN if observed.draining else None


def should_restart(pod: Pod, container: Container, attempt: Attempt) -> bool:
    """Whether the restart policy (the container's own, else the pod's) wants an ended container again."""
    policy = container.restart_policy or pod.spec.restart_policy
    if attempt.exit is None or policy == "Never":
        return False
    return policy == "Always" or attempt.exit.code != 0


def plan(pod: Pod, observed: Observed, now: float) -> Plan:
    """What to do next. The same input gives the same plan; carrying it out twice does no harm."""
    stop = stop_cause(pod, observed, now)
    if stop is not None:
        return _stop(observed, stop)
    actions: list[Action] = []
    wakes: list[float] = []
    ended = True
    for container in pod.spec.containers or ():
        view = observed.containers.get(container.name, ContainerView())
        if view.running is not None or view.starting:
            ended = False
            continue
        if view.latest is not None and not should_restart(pod, container, view.latest):
            continue
        ended = False
        _start_or_wait(pod, container, view, now, actions, wakes)
    names = [container.name for container in pod.spec.ephemeral_containers or ()]
    if ended:
        # They do not keep a pod alive (the kubelet's getPhase does not look at them).
        leaving = _end(observed, names)
        return Plan(leaving, None, None, ended=not leaving)
    for container in pod.spec.ephemeral_containers or ():
        view = observed.containers.get(container.name, ContainerView())
        if view.latest is None and not view.starting:
            _start_or_wait(pod, container, view, now, actions, wakes)
    if pod.spec.active_deadline_seconds is not None:
        wakes.append(observed.started_at + pod.spec.active_deadline_seconds)
    return Plan(tuple(actions), min(wakes, default=None), None, ended)


def _start_or_wait(
    pod: Pod, container: Container, view: ContainerView, now: float, actions: list[Action], wakes: list[float]
) -> None:
    """A container that should run and is not being started: now, or when its back-off is over."""
    retry_at = _retry_at(view)
    if retry_at <= now:
        actions.append(Start(container, 0 if view.latest is None else view.latest.number + 1))
        return
    wakes.append(retry_at)
    if view.waiting is None:
        actions.append(BackOff(container.name, _crash_loop(pod, container, view, now)))
    elif view.waiting.reason == "ErrImagePull":
        if now >= view.waiting.since + PULL_ERROR_SHOWN:
            actions.append(BackOff(container.name, _pull_back_off(container, view.waiting)))
        else:
            wakes.append(view.waiting.since + PULL_ERROR_SHOWN)


def _retry_at(view: ContainerView) -> float:
    """When a container that is to start may: a failed start's own time, else the crash back-off's."""
    if view.waiting is not None:
        return view.waiting.retry_at
    if view.latest is None or view.latest.exit is None:
        return 0.0
    finished = view.latest.exit.finished_at / SECOND
    retry_at = view.backoff.retry_at(finished)
    return 0.0 if retry_at == finished else retry_at


def _crash_loop(pod: Pod, container: Container, view: ContainerView, now: float) -> Waiting:
    """The kubelet's waiting state of a container in crash back-off."""
    delay = go_duration(view.backoff.delay)
    message = f"back-off {delay} restarting failed container={container.name} pod={pod_text(pod)}"
    return Waiting("CrashLoopBackOff", message, now, _retry_at(view))


def _pull_back_off(container: Container, failed: Waiting) -> Waiting:
    """The kubelet's waiting state between two tries to pull an image; it keeps the last error's text."""
    message = f'Back-off pulling image "{container.image}": {failed.reason}: {failed.message}'
    return Waiting("ImagePullBackOff", message, failed.since, failed.retry_at)


def _stop(observed: Observed, stop: StopCause) -> Plan:
    actions = _end(observed, observed.containers)
    return Plan(actions, None, stop, ended=not actions)


def _end(observed: Observed, names: Iterable[str]) -> tuple[Action, ...]:
    """What ends these containers; nothing when none of them runs or is being started."""
    actions: list[Action] = []
    for name in names:
        view = observed.containers.get(name, ContainerView())
        if view.starting:
            actions.append(CancelStart(name))
        if view.running is not None:
            actions.append(Kill(name, view.running.id))
    return tuple(actions)
