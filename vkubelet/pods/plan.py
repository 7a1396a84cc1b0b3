"""What to do next for a pod: a pure function of its spec, what was observed and the clock.

It exists so that the hard semantics of a kubelet (the order of init containers and sidecars, restart policy,
crash back-off, probes, deletion, deadline) are in one place that tables and Hypothesis can try without a
process or a server. It must not await, read a file or ask the time; workers carry its actions out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TypeAlias

from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod
from vkubelet.pods.ending import grace_seconds, prerequisites
from vkubelet.pods.health import is_started, unhealthy
from vkubelet.pods.observed import ContainerView, Observed, StopCause, Waiting
from vkubelet.pods.phase import TERMINAL_PHASES
from vkubelet.pods.restarts import restarts_when_killed, should_restart
from vkubelet.pods.starting_over import sources
from vkubelet.pods.waits import ERROR_SHOWN, PULL_FAILED, crash_loop, is_changed, pull_back_off, retry_at

_NOT_SEEN = ContainerView()


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """Make the pod's volumes ready; no container runs before."""


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """Start attempt `number` of a container: once the volumes are there, if they are still coming."""

    container: Container
    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class Kill:
    """End a running container, once those in `after` have ended, within `grace` seconds in all.

    `message` is its Killing event's. `restart` tells that it is ended to be started anew.
    """

    container: str
    id: str
    grace: int
    message: str
    after: tuple[str, ...] = ()
    restart: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class CancelStart:
    """Give up a start that is under way."""

    container: str


@dataclasses.dataclass(frozen=True, slots=True)
class BackOff:
    """Note that a container waits for its crash back-off."""

    container: str
    waiting: Waiting


@dataclasses.dataclass(frozen=True, slots=True)
class StartOver:
    """Nothing of the pod runs any more: from now on it is one that begins anew."""


Action: TypeAlias = Mount | Start | Kill | CancelStart | BackOff | StartOver


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
    if observed.eviction is not None:
        return StopCause.EVICTED
    deadline = pod.spec.active_deadline_seconds
    if deadline is not None and now >= observed.taken_at + deadline:
        return StopCause.DEADLINE
    return StopCause.SHUTDOWN if observed.draining else None


def plan(pod: Pod, observed: Observed, now: float) -> Plan:
    """What to do next. The same input gives the same plan; carrying it out twice does no harm."""
    stop = stop_cause(pod, observed, now)
    if stop is not None:
        actions = _end(pod, observed, observed.containers)
        return Plan(actions, None, stop, ended=not actions)
    return _Turn(pod, observed, now).plan()


def over(pod: Pod, observed: Observed) -> bool:
    """Whether no container of the pod's own runs, is being started or will be; nor can any, after its
    init.
    """
    own = [
        (container, observed.containers.get(container.name, _NOT_SEEN))
        for container in pod.spec.containers or ()
    ]
    if all(_is_over(pod, container, view) for container, view in own):
        return True
    return not _initialized(own) and any(
        _failed(pod, container, observed.containers.get(container.name, _NOT_SEEN))
        for container in pod.spec.init_containers or ()
    )


def _is_over(pod: Pod, container: Container, view: ContainerView) -> bool:
    if view.running is not None or view.starting or view.latest is None:
        return False
    return not should_restart(pod, container, view)


def _initialized(own: Iterable[tuple[Container, ContainerView]]) -> bool:
    """Once one of the pod's own containers has been started, no init container runs again."""
    return any(view.latest is not None and not view.latest.past for _, view in own)


def _failed(pod: Pod, container: Container, view: ContainerView) -> bool:
    """An init container failed and is not tried again."""
    if view.latest is None or view.latest.exit is None or view.latest.past or view.starting:
        return False
    return view.latest.exit.code != 0 and not should_restart(pod, container, view)


class _Turn:
    """One plan of a pod that may run."""

    def __init__(self, pod: Pod, observed: Observed, now: float) -> None:
        self.pod = pod
        self.observed = observed
        self.now = now
        self.actions: list[Action] = []
        self.wakes: list[float] = []

    def plan(self) -> Plan:
        spec = self.pod.spec
        if over(self.pod, self.observed):
            # Neither sidecars nor ephemeral containers keep a pod alive.
            leaving = _end(self.pod, self.observed, self.observed.containers)
            return Plan(leaving, None, None, ended=not leaving)
        if spec.active_deadline_seconds is not None:
            self.wakes.append(self.observed.taken_at + spec.active_deadline_seconds)
        if sources(self.pod, self.observed.containers):
            clearing = _clear(self.pod, self.observed) or (StartOver(),)
            return Plan(clearing, min(self.wakes, default=None), None, ended=False)
        self._mount()
        if self._initialize():
            for container in spec.containers or ():
                self._keep(container)
        for container in spec.ephemeral_containers or ():
            view = self._view(container)
            if view.latest is None and not view.starting:
                self._start_or_wait(container, view)
        return Plan(tuple(self.actions), min(self.wakes, default=None), None, ended=False)

    def _view(self, container: Container) -> ContainerView:
        return self.observed.containers.get(container.name, _NOT_SEEN)

    def _mount(self) -> None:
        volumes = self.observed.volumes
        if volumes.mounted or volumes.mounting:
            return
        if volumes.retry_at <= self.now:
            self.actions.append(Mount())
        else:
            self.wakes.append(volumes.retry_at)

    def _initialize(self) -> bool:
        """Carry the init containers on; True once the pod's own containers may start (the kubelet's
        computeInitContainerActions).
        """
        own = [(container, self._view(container)) for container in self.pod.spec.containers or ()]
        initialized = _initialized(own)
        for container in self.pod.spec.init_containers or ():
            view = self._view(container)
            if container.is_sidecar:
                self._keep(container)
                if not initialized and not is_started(container, view):
                    return False
            elif not initialized and not self._is_done(container, view):
                self._keep(container)
                return False
        return True

    @staticmethod
    def _is_done(container: Container, view: ContainerView) -> bool:
        """An init container that has succeeded, in this boot."""
        latest = view.latest
        return (
            not view.starting
            and latest is not None
            and latest.exit is not None
            and latest.exit.code == 0
            and not latest.past
            and not view.restart
        )

    def _keep(self, container: Container) -> None:
        """Have a container run, as far as its restart policy wants it to."""
        view = self._view(container)
        if view.running is not None:
            self._end_if_due(container, view)
        elif not view.starting and (
            self._is_first(container, view) or should_restart(self.pod, container, view)
        ):
            self._start_or_wait(container, view)

    def _is_first(self, container: Container, view: ContainerView) -> bool:
        """It has not run; after a reboot of the node, an init container has not either, whatever came of
        it.
        """
        if view.latest is None:
            return True
        return view.latest.past and any(
            item.name == container.name for item in self.pod.spec.init_containers or ()
        )

    def _end_if_due(self, container: Container, view: ContainerView) -> None:
        """End a running container whose image is another now, or which is not well."""
        found = unhealthy(container, view)
        is_own = container in (self.pod.spec.containers or ())
        if view.running is None or not (found or is_changed(container, view.running)):
            return
        if is_changed(container, view.running) and (is_own or container.is_sidecar):
            what, again, grace = "definition changed", True, grace_seconds(self.pod)
        elif found is not None:
            what, again = f"failed {found.kind} probe", restarts_when_killed(self.pod, container)
            grace = grace_seconds(self.pod, found)
        else:
            return
        kind = "Init container" if container.is_sidecar else "Container"
        message = f"{kind} {container.name} {what}"
        if again and not container.is_sidecar:
            message += ", will be restarted"
        self.actions.append(Kill(container.name, view.running.id, grace, message, restart=again))

    def _start_or_wait(self, container: Container, view: ContainerView) -> None:
        """A container that should run and is not being started: now, or when its back-off is over."""
        if not self.observed.volumes.mounted and not self.observed.volumes.coming:
            return
        due = retry_at(container, view)
        if due <= self.now:
            self.actions.append(Start(container, 0 if view.latest is None else view.latest.number + 1))
            return
        self.wakes.append(due)
        waiting = view.waiting
        if waiting is not None and waiting.reason not in (*PULL_FAILED, "PostStartHookError"):
            return
        if waiting is not None and self.now < waiting.since + ERROR_SHOWN:
            self.wakes.append(waiting.since + ERROR_SHOWN)
        elif waiting is not None and waiting.reason in PULL_FAILED:
            self.actions.append(BackOff(container.name, pull_back_off(container, waiting)))
        else:
            self.actions.append(BackOff(container.name, crash_loop(self.pod, container, view, self.now)))


def _clear(pod: Pod, observed: Observed) -> tuple[Action, ...]:
    """What ends all containers that are to start over, without grace; the kubelet says no more about it."""
    actions: list[Action] = []
    for container in (*(pod.spec.containers or ()), *(pod.spec.init_containers or ())):
        view = observed.containers.get(container.name, _NOT_SEEN)
        if view.starting:
            actions.append(CancelStart(container.name))
        if view.running is not None:
            actions.append(Kill(container.name, view.running.id, 0, "killing", restart=True))
    return tuple(actions)


def _end(pod: Pod, observed: Observed, names: Iterable[str]) -> tuple[Action, ...]:
    """What ends these containers; nothing when none of them runs or is being started."""
    grace = grace_seconds(pod, eviction=observed.eviction)
    actions: list[Action] = []
    for name in names:
        view = observed.containers.get(name, _NOT_SEEN)
        if view.starting:
            actions.append(CancelStart(name))
        if view.running is not None:
            after = prerequisites(pod, name, observed.containers)
            actions.append(Kill(name, view.running.id, grace, f"Stopping container {name}", after))
    return tuple(actions)
