"""What this node knows of one pod's containers: their attempts, processes and ends.

It exists so that the pod's worker, which acts, and those who only ask (logs, exec, statistics) share one
place of facts. It must decide nothing and start nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from providers.base import ContainerState, Provider, ProviderError
from vkubelet import clock, telemetry
from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod
from vkubelet.pods import podinfo, termination
from vkubelet.pods.container_status import terminated_reason
from vkubelet.pods.directory import ContainerNotFoundError, ContainerNotReadyError, LogSource
from vkubelet.pods.observed import SECOND, Attempt, ContainerView
from vkubelet.pods.phase import TERMINAL_PHASES
from vkubelet.pods.records import Record, attempt, record
from vkubelet.pods.running import RunningContainer
from vkubelet.pods.seed import seed
from vkubelet.pods.starting_over import life, started_over

logger = logging.getLogger(__name__)


class PodContainers:
    """The containers of one pod. `on_news` is called when anything about them has changed."""

    def __init__(
        self,
        pod: Pod,
        records: Iterable[Record],
        provider: Provider,
        run_dir: Path,
        on_news: Callable[[], None],
        log_of: Callable[[str, int], Path],
    ) -> None:
        """`records` are the containers of this pod that an earlier agent left.

        `log_of` tells where the log of an attempt is, by the container's name and the attempt's number.
        """
        self.pod = pod
        self._provider = provider
        self._run_dir = run_dir
        self._on_news = on_news
        self._log_of = log_of
        found = list(records)
        self._states = {item.state.id: item.state for item in found}
        self._ends: dict[str, asyncio.Event] = {}
        self._info_shown = self._info_stale = False
        completed = [dataclasses.replace(item, attempt=self._attempt(item.state)) for item in found]
        self._views = {name: _timed(view) for name, view in seed(pod, completed, time.time()).items()}
        self.life = life(self._views)
        listed = found or pod.status.container_statuses
        self.unlisted = pod.status.phase in TERMINAL_PHASES and not listed
        """Whether the pod's status names no containers: the node has refused it."""

    @property
    def views(self) -> Mapping[str, ContainerView]:
        """What is known of each container, by name, init containers first."""
        return self._views

    def update(self, pod: Pod) -> None:
        """The object has changed: it may have more ephemeral containers now."""
        self.pod = pod
        for container in pod.spec.ephemeral_containers or ():
            self._views.setdefault(container.name, ContainerView())

    def note(self, name: str, **changes: object) -> None:
        """Change what is known of a container, for the turn that is under way."""
        self._views[name] = dataclasses.replace(self._views[name], **changes)  # type: ignore[arg-type]

    def set(self, name: str, **changes: object) -> None:
        """Change what is known of a container: that is news."""
        self.note(name, **changes)
        self._on_news()

    def start_over(self) -> None:
        """The pod begins anew: that is news."""
        self.life += 1
        self._views.update(started_over(self.pod, self._views, clock.now()))
        self._on_news()

    def spec(self, name: str) -> Container:
        """The container of this name, which the pod has."""
        return next(item for item in self.pod.spec.all_containers() if item.name == name)

    def kind(self, name: str) -> str:
        """What the kubelet's metrics call this kind of container."""
        spec = self.pod.spec
        if any(item.name == name for item in spec.ephemeral_containers or ()):
            return "ephemeral_container"
        is_init = any(item.name == name for item in spec.init_containers or ())
        return "init_container" if is_init else "container"

    def begun(self, state: ContainerState) -> Attempt:
        """A container was started; its end may have been told of before."""
        return self._attempt(self._states.setdefault(state.id, state))

    def exited(self, state: ContainerState) -> None:
        """A container has ended, perhaps before its start was noted."""
        self._states[state.id] = state
        if state.exit is not None:
            kind, reason = self.kind(record(state).container), terminated_reason(state.exit.reason)
            telemetry.TERMINATED_CONTAINERS.inc(kind, str(state.exit.code), reason)
        if state.id in self._ends:
            self._ends[state.id].set()
        for name, view in self._views.items():
            if view.latest is not None and view.latest.id == state.id:
                self.set(name, latest=self._attempt(state))

    def forget(self, identifier: str) -> None:
        """An attempt is neither the latest nor the one before any more."""
        self._states.pop(identifier, None)
        self._ends.pop(identifier, None)

    def identifiers(self) -> list[str]:
        """The ids of all containers of the pod that the provider still knows."""
        return list(self._states)

    def log_source(self, container: str, *, previous: bool) -> LogSource:
        """The log that `kubectl logs` means by the container's name. Raises the directory's errors.

        The rules are the kubelet's validateContainerLogStatus.
        """
        view, pod = self._views.get(container), self.pod.metadata.name
        if view is None:
            raise ContainerNotFoundError(container, pod)
        wanted = view.latest
        if previous and not (wanted is not None and wanted.exit is not None and view.waiting is not None):
            wanted = view.previous  # else it waits to be restarted: what ran last is the previous one
        if self.unlisted:
            raise ContainerNotReadyError.unavailable(container, pod)
        if wanted is None:
            if previous:
                raise ContainerNotReadyError.no_previous(container, pod)
            creating = "PodInitializing" if self.pod.spec.init_containers else "ContainerCreating"
            reason = creating if view.waiting is None else view.waiting.reason
            raise ContainerNotReadyError.waiting(container, pod, reason)
        state = self._states.get(wanted.id)
        if state is None:
            # All but its log may have gone with a boot.
            path = self._log_of(container, wanted.number)
            if wanted.exit is None or not path.is_file():
                raise ContainerNotReadyError.terminated(container, pod)
            ended = asyncio.Event()
            ended.set()
            return LogSource(path, ended)
        return LogSource(state.log_path, self.end_of(state))

    def running(self, container: str) -> RunningContainer | None:
        """The container of this name, if it runs."""
        view = self._views.get(container)
        if view is None or view.running is None:
            return None
        state = self._states[view.running.id]
        end = self.end_of(state)
        return RunningContainer(self.spec(container), state, view.running.number, end, self.show_info)

    def all_running(self) -> list[RunningContainer]:
        """All containers of the pod that run."""
        found = [self.running(name) for name in self._views]
        return [container for container in found if container is not None]

    def end_of(self, state: ContainerState) -> asyncio.Event:
        """The event that is set when a container has ended; made for the first who asks."""
        end = self._ends.setdefault(state.id, asyncio.Event())
        if state.exit is not None:
            end.set()
        return end

    def show_info(self) -> Path:
        """Write what a guest may know of its pod, and keep it true; the directory to let it see.

        Raises OSError when it cannot be made; what is there may be true no more, and is told of.
        """
        where = podinfo.directory(self._run_dir, self.pod.metadata.uid)
        podinfo.make(where)
        self._info_shown = True
        self.write_info()
        return where

    def write_info(self) -> None:
        """Bring what guests are shown of their pod up to date, if any is shown it."""
        if self._info_shown:
            pids = {identifier: state.pid for identifier, state in self._states.items()}
            where = podinfo.directory(self._run_dir, self.pod.metadata.uid)
            was_stale, self._info_stale = self._info_stale, True
            try:
                podinfo.write(where, podinfo.describe(self.pod, self._views, pids))
                self._info_stale = False
            except OSError as error:
                if not was_stale:
                    logger.warning("what guests are shown of their pod is as it was: %s", error)

    def _attempt(self, state: ContainerState) -> Attempt:
        """The attempt that a container is, its end with the message that it left."""
        found = _seen(attempt(state))
        name = record(state).container
        spec = next((item for item in self.pod.spec.all_containers() if item.name == name), None)
        if found.exit is None or spec is None:
            return found
        where = termination.directory(self._run_dir, self.pod.metadata.uid)
        file = termination.place(where, spec, found.number)
        end = termination.completed(spec, found.exit, file, state.log_path, lambda: self._tree(state.id))
        return dataclasses.replace(found, exit=end)

    def _tree(self, identifier: str) -> termination.Tree:
        try:
            preopens = self._provider.spec(identifier).preopens
        except ProviderError:
            return {}  # it has been removed: what it left behind is gone with it
        return {"/": self._provider.root(identifier), **{item.guest: item.host for item in preopens}}


def _seen(found: Attempt) -> Attempt:
    """The attempt with the time of its end by the clock of decisions."""
    if found.exit is None:
        return found
    return dataclasses.replace(found, end_seen=clock.when(found.exit.finished_at / SECOND))


def _timed(view: ContainerView) -> ContainerView:
    """What an earlier agent knew, by this one's clock."""
    latest = None if view.latest is None else _seen(view.latest)
    backoff = dataclasses.replace(view.backoff, updated=clock.when(view.backoff.updated))
    return dataclasses.replace(view, latest=latest, backoff=backoff)
