"""One task a pod: observe, plan, act, report, wait for news.

It exists to be the only owner of a pod's state on this node: news (a changed spec, a container's end, the
object's deletion) is put in its mailbox, and everything done for the pod is done by its task or by a start
that the task owns. It decides nothing itself: `plan` and `pod_status` do.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import assert_never

from providers.base import ContainerState, Preopen, Provider
from vkubelet import telemetry
from vkubelet.api import times
from vkubelet.api.containers import Container
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod, pod_reference
from vkubelet.config import Config
from vkubelet.pods import podinfo
from vkubelet.pods.admission import admit
from vkubelet.pods.backoff import Backoff
from vkubelet.pods.builtin import is_builtin
from vkubelet.pods.directory import ContainerNotFoundError, ContainerNotReadyError, LogSource
from vkubelet.pods.inventory import PodEntry, pod_entry
from vkubelet.pods.news import is_news
from vkubelet.pods.observed import ContainerView, Observed, Rejection, StopCause, Waiting
from vkubelet.pods.plan import (
    SECOND,
    TERMINAL_PHASES,
    Action,
    BackOff,
    CancelStart,
    Kill,
    Plan,
    Start,
    plan,
)
from vkubelet.pods.records import Record, attempt, record
from vkubelet.pods.reporter import StatusSink
from vkubelet.pods.running import RunningContainer
from vkubelet.pods.seed import seed
from vkubelet.pods.signal import Signal
from vkubelet.pods.starter import Starter, StartError, container_reference, log_file, pod_log_dir
from vkubelet.pods.status import pod_status, terminated_reason
from vkubelet.pods.text import pod_text

logger = logging.getLogger(__name__)

# Where an ephemeral container finds its target's files: where it would find them with a shared PID namespace.
TARGET_ROOT = "/proc/1/root"
# How long a status that only says "being made" is held back: most starts are over by then.
CREATING_SHOWN_AFTER = 0.25
# After a defect of our own in a pod's worker, the pause before the pod is tried again.
DEFECT_PAUSE = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Services:
    """What every worker uses; all of it outlives them."""

    config: Config
    provider: Provider
    starter: Starter
    recorder: Recorder
    reporter: StatusSink
    host_ip: str


class PodWorker:
    """The one owner of a pod on this node."""

    def __init__(self, pod: Pod, records: Iterable[Record], services: Services) -> None:
        """`records` are the containers of this pod that an earlier agent left."""
        found = list(records)
        now = time.time()
        started = pod.status.start_time
        self.pod = pod
        self._services = services
        self._views = seed(pod, found, now)
        self._started_at = times.parse(started) if started else float(int(now))
        self._rejection = self._admit() if not found else None
        self._states = {record.state.id: record.state for record in found}
        self._ends: dict[str, asyncio.Event] = {}
        self._failures: dict[str, Backoff] = {}
        self._starts: dict[str, asyncio.Task[None]] = {}
        self._killed: set[str] = set()
        self._shown_at = 0.0
        self._awaited_since: float | None = None if found else time.monotonic()
        self._synced = bool(found)
        self._gone = False
        self._draining = False
        self._info_shown = False
        self._news = Signal()
        self.stopped = Signal()

    def update(self, pod: Pod) -> None:
        """The object has changed; only the latest version counts."""
        before, self.pod = self.pod, pod
        for container in pod.spec.ephemeral_containers or ():
            self._views.setdefault(container.name, ContainerView())
        if is_news(before, pod):
            self._news.set()

    def vanish(self) -> None:
        """The object does not exist any more."""
        self._gone = True
        self._news.set()

    def drain(self) -> None:
        """The node shuts down and takes its pods with it."""
        self._draining = True
        self._news.set()

    def exited(self, state: ContainerState) -> None:
        """A container of this pod has ended (perhaps before its start was noted)."""
        self._states[state.id] = state
        if state.exit is not None:
            kind, reason = self._kind(record(state).container), terminated_reason(state.exit.reason)
            telemetry.TERMINATED_CONTAINERS.inc(kind, str(state.exit.code), reason)
        if state.id in self._ends:
            self._ends[state.id].set()
        for name, view in self._views.items():
            if view.latest is not None and view.latest.id == state.id:
                self._set(name, latest=attempt(state))

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
        if wanted is None:
            if previous:
                raise ContainerNotReadyError.no_previous(container, pod)
            reason = "ContainerCreating" if view.waiting is None else view.waiting.reason
            raise ContainerNotReadyError.waiting(container, pod, reason)
        state = self._states.get(wanted.id)
        if state is None:
            raise ContainerNotReadyError.terminated(container, pod)
        return LogSource(state.log_path, self._end_of(state))

    def entry(self) -> PodEntry:
        """What there is of this pod, for the node's inventory."""
        return pod_entry(self.pod, self._started_at, self._views)

    def running(self, container: str) -> RunningContainer | None:
        """The container of this name, if it runs."""
        view = self._views.get(container)
        if view is None or view.running is None:
            return None
        state = self._states[view.running.id]
        spec = next(item for item in self.pod.spec.all_containers() if item.name == container)
        return RunningContainer(spec, state, view.running.number, self._end_of(state), self.show_info)

    def all_running(self) -> list[RunningContainer]:
        """All containers of the pod that run."""
        found = [self.running(name) for name in self._views]
        return [container for container in found if container is not None]

    def show_info(self) -> Path:
        """Write what a guest may know of its pod, and keep it true; the directory to let it see."""
        self._info_shown = True
        self._write_info()
        return podinfo.directory(Path(self._services.config.run_dir), self.pod.metadata.uid)

    def _write_info(self) -> None:
        pids = {identifier: state.pid for identifier, state in self._states.items()}
        where = podinfo.directory(Path(self._services.config.run_dir), self.pod.metadata.uid)
        podinfo.write(where, podinfo.describe(self.pod, self._views, pids))

    def _end_of(self, state: ContainerState) -> asyncio.Event:
        """The event that is set when a container has ended; made for the first who asks."""
        end = self._ends.setdefault(state.id, asyncio.Event())
        if state.exit is not None:
            end.set()
        return end

    async def run(self) -> None:
        """Live as long as the pod does on this node."""
        try:
            async with asyncio.TaskGroup() as group:
                while not await self._sync_safely(group):
                    pass
        finally:
            self.stopped.set()

    async def _sync_safely(self, group: asyncio.TaskGroup) -> bool:
        """One turn; a defect of ours costs this pod a pause, and no other pod anything."""
        try:
            return await self._sync(group)
        except Exception as error:
            logger.exception("pod %s: sync failed", self.pod.key)
            reference = pod_reference(self.pod)
            self._services.recorder.event(reference, "Warning", "FailedSync", f"error: {error!r}")
            await asyncio.sleep(DEFECT_PAUSE)
            return False

    async def _sync(self, group: asyncio.TaskGroup) -> bool:
        """Observe, plan, act, report, wait. True when the pod is over on this node."""
        self._news.clear()
        now, began = time.time(), time.monotonic()
        decided = plan(self.pod, self._observe(), now)
        for action in decided.actions:
            await self._act(action, group, now)
        if decided.ended and decided.stop in (StopCause.DELETED, StopCause.GONE):
            await self._tear_down(decided.stop)
            return True
        shown_at = self._creation_shown_at(decided, now)
        if shown_at is None:
            self._report(decided, now)
        if decided.ended and decided.stop is not None:
            self.stopped.set()
        operation = "kill" if decided.stop is not None else "sync" if self._synced else "create"
        telemetry.POD_WORKER_DURATION.observe(time.monotonic() - began, operation)
        self._synced = True
        await self._wait(decided.wake_at, shown_at)
        return False

    def _observe(self) -> Observed:
        return Observed(self._views, self._started_at, self._rejection, self._gone, self._draining)

    def _admit(self) -> Rejection | None:
        if self.pod.status.phase in TERMINAL_PHASES or self.pod.metadata.deletion_timestamp:
            return None
        rejection = admit(self.pod)
        if rejection is not None:
            telemetry.ADMISSION_REJECTIONS.inc(rejection.reason)
            reference = pod_reference(self.pod)
            self._services.recorder.event(reference, "Warning", rejection.reason, rejection.message)
        return rejection

    async def _act(self, action: Action, group: asyncio.TaskGroup, now: float) -> None:
        match action:
            case Start(container, number):
                view = self._views[container.name]
                self._views[container.name] = dataclasses.replace(view, starting=True, waiting=None)
                self._shown_at = now + CREATING_SHOWN_AFTER
                self._starts[container.name] = group.create_task(
                    self._start(container, number, now), name=f"start {self.pod.key} {container.name}"
                )
            case Kill(name, identifier):
                if identifier not in self._killed:
                    self._killed.add(identifier)
                    self._container_event(name, "Normal", "Killing", f"Stopping container {name}")
                await self._services.provider.kill(identifier)
            case CancelStart(name):
                if not self._starts[name].cancelling():
                    self._starts[name].cancel()
            case BackOff(name, waiting):
                self._views[name] = dataclasses.replace(self._views[name], waiting=waiting)
                self._back_off_event(name, waiting)
            case _:
                assert_never(action)

    async def _start(self, container: Container, number: int, now: float) -> None:
        """Start a container and note what came of it; owned by the worker's task group."""
        name = container.name
        try:
            await self._start_attempt(container, number, now)
        except StartError as error:
            failed = time.time()
            again = self._failures.get(name, Backoff()).next(failed, failed)
            self._failures[name] = again
            waiting = Waiting(error.reason, str(error), failed, again.retry_at(failed))
            self._set(name, waiting=waiting, starting=False)
            telemetry.STARTED_CONTAINER_ERRORS.inc(self._kind(name), error.reason)
        except asyncio.CancelledError:
            self._set(name, starting=False)
            raise
        except Exception as error:
            logger.exception("pod %s: start of container %s failed", self.pod.key, name)
            text = f"defect in the node agent: {error!r}"
            failed = time.time()
            waiting = Waiting("CreateContainerError", text, failed, failed + DEFECT_PAUSE)
            self._set(name, waiting=waiting, starting=False)

    async def _start_attempt(self, container: Container, number: int, now: float) -> None:
        name = container.name
        view = self._views[name]
        crash = view.backoff
        if view.latest is not None and view.latest.exit is not None:
            crash = crash.next(view.latest.exit.finished_at / SECOND, now)
        services = self._services
        preopens = self._preopens(container)
        state = await services.starter.start(self.pod, container, number, crash, services.host_ip, preopens)
        self._failures.pop(name, None)
        latest = attempt(self._states.setdefault(state.id, state))
        self._set(name, latest=latest, previous=view.latest, starting=False, backoff=crash)
        self._count_start(name)
        if view.previous is not None:
            await self._discard(name, view.previous.id, view.previous.number)

    def _preopens(self, container: Container) -> tuple[Preopen, ...]:
        """What a container sees beside its own files. Raises StartError."""
        shown = []
        if is_builtin(container.image):
            shown.append(Preopen(self.show_info(), podinfo.GUEST_PATH, read_only=True))
        if container.target_container_name:
            target = self.running(container.target_container_name)
            if target is None:
                text = f"unable to find target container {container.target_container_name}"
                raise StartError("CreateContainerError", text)
            shown.append(Preopen(self._services.provider.root(target.state.id), TARGET_ROOT))
        return tuple(shown)

    def _kind(self, name: str) -> str:
        """What the kubelet's metrics call this kind of container."""
        ephemeral = any(item.name == name for item in self.pod.spec.ephemeral_containers or ())
        return "ephemeral_container" if ephemeral else "container"

    def _count_start(self, name: str) -> None:
        telemetry.STARTED_CONTAINERS.inc(self._kind(name))
        started = all(self._views[item.name].latest for item in self.pod.spec.containers or ())
        if started and self._awaited_since is not None:
            telemetry.POD_START_DURATION.observe(time.monotonic() - self._awaited_since)
            self._awaited_since = None

    def _set(self, name: str, **changes: object) -> None:
        self._views[name] = dataclasses.replace(self._views[name], **changes)  # type: ignore[arg-type]
        self._news.set()

    async def _discard(self, name: str, identifier: str, number: int) -> None:
        """Forget an attempt that is neither the latest nor the one before, with its log."""
        await self._services.provider.remove(identifier)
        self._states.pop(identifier, None)
        self._ends.pop(identifier, None)
        self._killed.discard(identifier)
        path = log_file(self._services.config, self.pod, name, number)
        for part in path.parent.glob(f"{path.name}*"):
            part.unlink(missing_ok=True)

    def _report(self, decided: Plan, now: float) -> None:
        if decided.stop is StopCause.GONE or (decided.stop is StopCause.TERMINAL and decided.ended):
            return
        status = pod_status(self.pod, self._observe(), self._services.host_ip, now)
        if self._info_shown:
            self._write_info()
        self._services.reporter.report(self.pod, status)

    def _creation_shown_at(self, decided: Plan, now: float) -> float | None:
        """When a status that only says "being made" is worth a patch; None: the status is due now."""
        if decided.stop is not None or now >= self._shown_at:
            return None
        first = any(view.starting and view.latest is None for view in self._views.values())
        return self._shown_at if first else None

    async def _wait(self, *times: float | None) -> None:
        """Until there is news or the first of `times` has come."""
        wake_at = min((moment for moment in times if moment is not None), default=None)
        if wake_at is None:
            await self._news.wait()
            return
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(max(wake_at - time.time(), 0.0), self._news.set)
        try:
            await self._news.wait()
        finally:
            alarm.cancel()

    async def _tear_down(self, stop: StopCause) -> None:
        """Nothing runs any more: report the end, delete the object, then remove what is left here.

        In this order, so that an agent killed in between finds the containers and reports them again.
        """
        services = self._services
        if stop is StopCause.DELETED:
            terminal = self.pod.status.phase in TERMINAL_PHASES
            status = (
                None if terminal else pod_status(self.pod, self._observe(), services.host_ip, time.time())
            )
            await services.reporter.finish(self.pod, status)
        for identifier in list(self._states):
            await services.provider.remove(identifier)
        meta = self.pod.metadata
        podinfo.remove(podinfo.directory(Path(services.config.run_dir), meta.uid))
        logs = pod_log_dir(services.config, meta.namespace, meta.name, meta.uid)
        await asyncio.to_thread(shutil.rmtree, logs, ignore_errors=True)

    def _back_off_event(self, name: str, waiting: Waiting) -> None:
        if waiting.reason == "ImagePullBackOff":
            image = next(item.image for item in self.pod.spec.all_containers() if item.name == name)
            self._container_event(name, "Normal", "BackOff", f'Back-off pulling image "{image}"')
            self._container_event(name, "Warning", "Failed", "Error: ImagePullBackOff")
            return
        message = f"Back-off restarting failed container {name} in pod {pod_text(self.pod)}"
        self._container_event(name, "Warning", "BackOff", message)

    def _container_event(self, name: str, kind: str, reason: str, message: str) -> None:
        self._services.recorder.event(container_reference(self.pod, name), kind, reason, message)
