"""One task a pod: observe, plan, act, report, wait for news.

It exists to be the only owner of a pod's state on this node: news (a changed spec, a container's end, the
object's deletion) is put in its mailbox, and everything done for the pod is done by its task or by those that
it owns. It decides nothing itself: `plan` and `pod_status` do.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import assert_never

from providers.base import ContainerState
from providers.exhausted import lacking
from providers.faultpoints import reached
from vkubelet import clock, telemetry, tracing
from vkubelet.api import times
from vkubelet.api.objects import Pod, PodStatus, pod_reference
from vkubelet.api.volumes import Volume
from vkubelet.pods import log_directories, podinfo, termination
from vkubelet.pods.admission import admit
from vkubelet.pods.attempts import FAILED_STARTS, Attempts
from vkubelet.pods.container_reference import container_reference
from vkubelet.pods.containers import PodContainers
from vkubelet.pods.devices import show_devices
from vkubelet.pods.ending import STOP_FILE, signals_in_vain
from vkubelet.pods.eviction.ranking import PodUsage
from vkubelet.pods.insight import PodInsight, insight
from vkubelet.pods.inventory import PodEntry, pod_entry
from vkubelet.pods.news import is_news
from vkubelet.pods.observed import Eviction, Observed, Rejection, StopCause, VolumesView, Waiting
from vkubelet.pods.phase import TERMINAL_PHASES
from vkubelet.pods.plan import Action, BackOff, CancelStart, Kill, Mount, Plan, Start, StartOver, plan
from vkubelet.pods.pod_usage import pod_usage
from vkubelet.pods.records import Record
from vkubelet.pods.resizing import Resizing
from vkubelet.pods.security import own_identity
from vkubelet.pods.services import Services
from vkubelet.pods.signal import Signal
from vkubelet.pods.starter import log_file
from vkubelet.pods.status import pod_status
from vkubelet.pods.stopper import Stopper
from vkubelet.pods.text import pod_text, traced
from vkubelet.pods.volumes.errors import VolumeError

logger = logging.getLogger(__name__)

# How long a status that only says "being made" is held back: most starts are over by then.
CREATING_SHOWN_AFTER = 0.25
# After a defect of our own in a pod's worker, the pause before the pod is tried again.
DEFECT_PAUSE = 10.0


class PodWorker:
    """The one owner of a pod on this node."""

    def __init__(self, pod: Pod, records: Iterable[Record], services: Services) -> None:
        """`records` are the containers of this pod that an earlier agent left."""
        found = list(records)
        started = pod.status.start_time
        self._services = services
        self._news = Signal()
        self.stopped = Signal()
        allocation = self._allocation = services.allocations.pod(pod, _weakly(self._granted))
        pod = allocation.pod
        self.containers = PodContainers(
            pod,
            found,
            services.provider,
            Path(services.config.run_dir),
            self._news.set,
            lambda name, number: log_file(services.config, allocation.pod, name, number),
        )
        self._stopper = Stopper(services.provider, services.hooks, services.recorder, self.containers)
        self._pod_volumes = services.volumes.pod(pod, _weakly(self.retry))
        self._volumes = VolumesView(mounted=not pod.spec.volumes)
        self._attempts = Attempts(
            services, self.containers, self._allocation, self._pod_volumes, self._stopper
        )
        self._started_at = times.parse(started) if started else float(int(time.time()))
        self._since = clock.when(self._started_at)
        self._resizing = Resizing(
            services.provider,
            self.containers,
            self._allocation,
            self._news.set,
            services.config.process_limit,
        )
        self._rejection: Rejection | None = None
        self._eviction: Eviction | None = None
        self._evicted: asyncio.Future[None] | None = None
        self._active = bool(found)
        self._shown_at = 0.0
        self._synced = bool(found)
        self._gone = False
        self._draining = False
        if found and pod.status.phase not in TERMINAL_PHASES:
            self._allocation.hold()

    @property
    def pod(self) -> Pod:
        """The latest version of the object, with the resources that the pod was granted."""
        return self._allocation.pod

    def update(self, pod: Pod) -> None:
        """The object has changed; only the latest version counts."""
        before = self.pod
        pod = self._allocation.update(pod)
        self.containers.update(pod)
        if is_news(before, pod):
            self._pod_volumes.update(pod)
            if not self._pod_volumes.has_all(pod):
                self._volumes = dataclasses.replace(self._volumes, mounted=False)
            self._news.set()

    def _granted(self) -> None:
        """The pod was granted other resources, or is told why not."""
        self.containers.update(self.pod)
        self._pod_volumes.update(self.pod)
        self._news.set()

    def retry(self) -> None:
        """What a mount or a start failed for may be there now: try again at once."""
        self._volumes = dataclasses.replace(self._volumes, retry_at=0.0)
        self._attempts.retry(("CreateContainerConfigError",))
        self._news.set()

    def retry_all(self) -> None:
        """The same of everything that mounts and starts may have failed for."""
        self._volumes = dataclasses.replace(self._volumes, retry_at=0.0)
        self._attempts.retry(FAILED_STARTS)
        self._news.set()

    @property
    def is_active(self) -> bool:
        """Whether anything of the pod runs or is about to: it was taken, and has not ended."""
        return self._active and self._eviction is None

    async def usage(self) -> PodUsage:
        """See Evictable."""
        paths = (
            self._pod_volumes.host_path(one.name) for one in self.pod.spec.volumes or () if _on_disk(one)
        )
        running = self.containers.all_running()
        return await pod_usage(self._services.provider, running, [path for path in paths if path is not None])

    async def exceeded_volume(self) -> str | None:
        """See Evictable."""
        return await self._pod_volumes.exceeded()

    def evict(self, eviction: Eviction) -> Awaitable[None]:
        """End the pod for the node's sake, or for the limit that it broke; done once it has ended."""
        if self._evicted is None:
            self._evicted = asyncio.get_running_loop().create_future()
            self._eviction = eviction
            event = self._services.recorder.event
            event(pod_reference(self.pod), "Warning", eviction.reason, eviction.message)
            self._news.set()
        return asyncio.shield(self._evicted)

    async def collect(self) -> None:
        """Forget what has ended and is looked at by nobody: disks are short."""
        if self._active:
            await self._attempts.discard_previous(self.pod)
            return
        for identifier in self.containers.identifiers():
            await self._services.provider.remove(identifier)
            self.containers.forget(identifier)

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
        self._services.probes.stop(state.id)
        self.containers.exited(state)

    def entry(self) -> PodEntry:
        """What there is of this pod, for the node's inventory."""
        return pod_entry(self.pod, self._started_at, self.containers.views)

    def insight(self) -> PodInsight:
        """What there is to tell of this pod, and what it waits for."""
        return insight(self.pod, self._observe(), clock.now())

    async def run(self) -> None:
        """Live as long as the pod does on this node."""
        try:
            async with asyncio.TaskGroup() as group:
                if not self._synced:
                    tracing.begin("pod start", traced(self.pod))
                    if self.pod.spec.volumes:
                        await _let_requests_out()
                    await self._admit()
                self._attempts.resume(self.pod)
                while not await self._sync_safely(group):
                    pass
        finally:
            for identifier in self.containers.identifiers():
                self._services.probes.stop(identifier)
            tracing.finish("it ended before it had started")
            self._end()

    def _end(self) -> None:
        """Nothing of the pod runs, and nothing will."""
        self._active = False
        self.stopped.set()
        if self._evicted is not None and not self._evicted.done():
            self._evicted.set_result(None)

    async def _sync_safely(self, group: asyncio.TaskGroup) -> bool:
        """One turn; a defect of ours costs this pod a pause, and no other pod anything."""
        try:
            return await self._sync(group)
        except Exception as error:
            told = lacking(error) or repr(error)
            # The trace of what the machine lacks tells nobody anything.
            logger.exception("pod %s: sync failed: %s", self.pod.key, told, exc_info=lacking(error) is None)
            reference = pod_reference(self.pod)
            self._services.recorder.event(reference, "Warning", "FailedSync", f"error: {told}")
            await asyncio.sleep(DEFECT_PAUSE)
            return False

    async def _sync(self, group: asyncio.TaskGroup) -> bool:
        """Observe, plan, act, report, wait. True when the pod is over on this node."""
        self._news.clear()
        now, began = clock.now(), time.monotonic()
        decided = plan(self.pod, self._observe(), now)
        if decided.stop is not None:
            self._attempts.terminate()
        for action in decided.actions:
            self._act(action, group, now)
        if decided.ended and decided.stop in (StopCause.DELETED, StopCause.GONE):
            await self._tear_down(decided.stop)
            return True
        resumed_at: float | None = None
        if decided.stop is None:
            kills, resumed_at = self._resizing.turn(group)
            for kill in kills:
                self._act(kill, group, now)
        elif decided.ended:
            self._allocation.release()
        shown_at = self._creation_shown_at(decided, now)
        if shown_at is None:
            self._report(decided, now)
        if decided.ended:
            self._active = False
            self._services.starter.forget(self.pod)
            await self._pod_volumes.unmount()
        if decided.ended and decided.stop is not None:
            self._end()
        operation = "kill" if decided.stop is not None else "sync" if self._synced else "create"
        telemetry.POD_WORKER_DURATION.observe(time.monotonic() - began, operation)
        self._synced = True
        await self._wait(decided.wake_at, shown_at, resumed_at)
        return False

    def _observe(self) -> Observed:
        return Observed(
            self.containers.views,
            self._started_at,
            self._volumes,
            self._rejection,
            self._eviction,
            self._allocation.view(),
            self._gone,
            self._draining,
            self._since,
            clock.ahead(),
        )

    async def _admit(self) -> None:
        """Take the pod on, or tell why not.

        People are told also of one that is to end already, as by a kubelet: what it was deleted for may be
        why it cannot run here, a taint for instance.
        """
        ends = self.pod.metadata.deletion_timestamp is not None
        was_taken = ends and self.pod.status.start_time is not None
        if self.pod.status.phase in TERMINAL_PHASES or was_taken:
            return
        host = self._services.provider.capabilities()
        rejection = self._rejection = admit(self.pod, host, own_identity()) or await self._allocation.admit()
        self._active = rejection is None and not ends
        if rejection is not None:
            tracing.finish(rejection.reason)
            self.containers.unlisted = True
            telemetry.ADMISSION_REJECTIONS.inc(rejection.reason)
            reference = pod_reference(self.pod)
            self._services.recorder.event(reference, "Warning", rejection.reason, rejection.message)
        elif not ends and (unheard := signals_in_vain(self.pod)):
            message = (
                f"a wasm guest can be sent no signal: the stopSignal of {', '.join(unheard)} will not be. "
                f'Annotate the pod {STOP_FILE}: "true": its guests find /.vkubelet/stop at their end'
            )
            self._services.recorder.event(pod_reference(self.pod), "Normal", "StopSignalNotSent", message)

    def _act(self, action: Action, group: asyncio.TaskGroup, now: float) -> None:
        match action:
            case Mount():
                self._volumes = dataclasses.replace(self._volumes, mounting=True)
                self._shown_at = now + CREATING_SHOWN_AFTER
                group.create_task(self._mount(), name=f"mount {self.pod.key}")
            case Start(container, number):
                self._shown_at = now + CREATING_SHOWN_AFTER
                self._attempts.start(self.pod, container, number, now, group)
            case Kill():
                if action.restart:
                    self.containers.note(action.container, restart=True)
                self._stopper.stop(self.pod, action, group)
            case CancelStart(name):
                self._attempts.cancel(name)
            case BackOff(name, waiting):
                self.containers.note(name, waiting=waiting)
                self._back_off_event(name, waiting)
            case StartOver():
                self.containers.start_over()
            case _:
                assert_never(action)

    async def _mount(self) -> None:
        """Set the pod's volumes up, and note what came of it; owned by the worker's task group."""
        try:
            with tracing.span("volumes"):
                await self._pod_volumes.mount(self.pod, self._coming)
            # Meanwhile an ephemeral container may have come that mounts another.
            self._volumes = VolumesView(mounted=self._pod_volumes.has_all(self.pod))
        except VolumeError as error:
            for message in error.messages:
                self._services.recorder.event(pod_reference(self.pod), "Warning", error.reason, message)
            self._volumes = VolumesView(mounted=False, retry_at=clock.now() + error.retry_after)
        except Exception as error:
            text = lacking(error) or f"defect in the node agent: {error!r}"
            logger.exception("pod %s: its volumes: %s", self.pod.key, text, exc_info=lacking(error) is None)
            self._services.recorder.event(pod_reference(self.pod), "Warning", "FailedMount", text)
            self._volumes = VolumesView(mounted=False, retry_at=clock.now() + DEFECT_PAUSE)
        self._news.set()

    def _coming(self) -> None:
        """The volumes lack nothing but tokens."""
        self._volumes = dataclasses.replace(self._volumes, coming=True)
        self._news.set()

    def _report(self, decided: Plan, now: float) -> None:
        if decided.stop is StopCause.GONE or (decided.stop is StopCause.TERMINAL and decided.ended):
            return
        status = self._status(now)
        self.containers.write_info()
        self._services.reporter.report(self.pod, status)

    def _status(self, now: float) -> PodStatus:
        status = pod_status(self.pod, self._observe(), self._services.host_ip, now)
        show_devices(status, self._allocation.devices())
        return status

    def _creation_shown_at(self, decided: Plan, now: float) -> float | None:
        """When a status that only says "being made" is worth a patch; None: the status is due now."""
        if decided.stop is not None or now >= self._shown_at:
            return None
        views = self.containers.views.values()
        making = self._volumes.mounting or any(view.starting and view.latest is None for view in views)
        return self._shown_at if making else None

    async def _wait(self, *times: float | None) -> None:
        """Until there is news or the first of `times` has come."""
        wake_at = min((moment for moment in times if moment is not None), default=None)
        if wake_at is None:
            await self._news.wait()
            return
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(max(wake_at - clock.now(), 0.0), self._news.set)
        try:
            await self._news.wait()
        finally:
            alarm.cancel()

    async def _tear_down(self, stop: StopCause) -> None:
        """Nothing runs any more: unmount, report the end, delete the object, then remove what is left.

        In this order, so that an agent killed in between finds the containers and reports them again.
        """
        services = self._services
        # Secrets do not outlive their pod: whoever sees that its object is gone may rely on it.
        await self._pod_volumes.unmount()
        if stop is StopCause.DELETED:
            terminal = self.pod.status.phase in TERMINAL_PHASES
            status = None if terminal else self._status(clock.now())
            await services.reporter.finish(self.pod, status)
        reached("pod-finished")
        for identifier in self.containers.identifiers():
            await services.provider.remove(identifier)
        reached("pod-containers-removed")
        self._allocation.forget()
        reached("pod-allocation-forgotten")
        services.starter.forget(self.pod)
        meta, run_dir = self.pod.metadata, Path(services.config.run_dir)
        podinfo.remove(podinfo.directory(run_dir, meta.uid))
        logs = log_directories.link(services.config.root_dir, meta.uid)
        await asyncio.to_thread(log_directories.remove, logs)
        reached("pod-logs-removed")
        await asyncio.to_thread(termination.remove, termination.directory(run_dir, meta.uid))

    def _back_off_event(self, name: str, waiting: Waiting) -> None:
        reference = container_reference(self.pod, name)
        event = self._services.recorder.event
        if waiting.reason == "ImagePullBackOff":
            image = self.containers.spec(name).image
            event(reference, "Normal", "BackOff", f'Back-off pulling image "{image}"')
            event(reference, "Warning", "Failed", "Error: ImagePullBackOff")
            return
        message = f"Back-off restarting failed container {name} in pod {pod_text(self.pod)}"
        event(reference, "Warning", "BackOff", message)


async def _let_requests_out() -> None:
    """Let the requests be sent that a pod's volumes have begun with: for a token, which takes longest of all
    that a start waits for. That takes a turn for the task that asks and one for what it writes.
    """
    for _ in range(2):
        await asyncio.sleep(0)


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """A worker's method for what the worker owns, which keeps no worker.

    So one that has ended goes at once, with all that the API says of its pod, and not when the collector
    of cycles comes by: hundreds wait for that on a busy node, between objects that stay.
    """
    known = weakref.WeakMethod(method)

    def call() -> None:
        found = known()
        if found is not None:
            found()

    return call


def _on_disk(volume: Volume) -> bool:
    """Whether what is in a volume counts as the pod's own on the node's disk."""
    return volume.empty_dir is not None and volume.empty_dir.medium == ""
