"""All pods of the node: a worker for each, and the way from a container or a name to its worker.

It exists to keep the map from pods to workers in one place: it makes a worker when the informer tells of
a pod, hands on ends of containers, ends what belongs to no pod any more, and finds log files for the
kubelet API. It must not know what a pod spec means.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import NoReturn

from providers.base import ContainerState, ProviderError
from providers.faultpoints import reached
from vkubelet import footprint, logs
from vkubelet.api.objects import Pod
from vkubelet.logs import Subject
from vkubelet.pods import etc_files, log_directories, podinfo, termination
from vkubelet.pods.directory import (
    LogSource,
    PodNotFoundError,
)
from vkubelet.pods.insight import PodInsight
from vkubelet.pods.inventory import PodEntry
from vkubelet.pods.leftovers import sweep
from vkubelet.pods.observed import Eviction
from vkubelet.pods.records import ForeignContainerError, Record, record
from vkubelet.pods.services import Services
from vkubelet.pods.text import subject
from vkubelet.pods.worker import PodWorker

logger = logging.getLogger(__name__)


class PodManager:
    """The node's pods. Implements the ContainerDirectory and the Inventory of the kubelet API."""

    def __init__(self, services: Services) -> None:
        """`services` are shared by all workers."""
        self._services = services
        self.ended: Callable[[Pod], None] = _nobody
        """Called with each pod of which nothing is left on this node."""
        self.known_as: Callable[[str], str] = str
        """The uid by which this node knows a pod of a uid that the API server knows."""
        self._workers: dict[str, PodWorker] = {}
        self._by_name: dict[tuple[str, str], str] = {}
        self._adopted: dict[str, dict[str, Record]] = {}
        self._all_known = asyncio.Event()
        self._orphans: asyncio.Queue[Record] = asyncio.Queue()
        self._group: asyncio.TaskGroup | None = None
        self._remains = footprint.Remains()

    def adopt(self, states: Iterable[ContainerState]) -> None:
        """Take note of what an earlier agent left; called once, before the informer starts."""
        for state in states:
            try:
                found = record(state)
            except ForeignContainerError as error:
                logger.warning("left alone: %s", error)
                continue
            self._adopted.setdefault(found.uid, {})[state.id] = found

    def on_exit(self, state: ContainerState) -> None:
        """The provider's news: a container has ended."""
        try:
            found = record(state)
        except ForeignContainerError as error:
            logger.warning("container ended that is no pod's: %s", error)
            return
        self._remains.later()
        worker = self._workers.get(found.uid)
        if worker is not None:
            worker.exited(state)
        elif not self._all_known.is_set():
            # Also before `adopt` is called: the provider, which is opening, tells of ends already.
            self._adopted.setdefault(found.uid, {})[state.id] = found
        else:
            self._orphans.put_nowait(found)

    def on_change(self, pod: Pod) -> None:
        """The informer's news: a pod is new or has changed."""
        uid = pod.metadata.uid
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(pod)
            return
        if self._group is None:
            raise RuntimeError("pods are taken only while the manager runs")
        records = self._adopted.pop(uid, {}).values()
        worker = PodWorker(pod, records, self._services)
        self._workers[uid] = worker
        self._by_name[pod.metadata.namespace, pod.metadata.name] = uid
        self._group.create_task(self._run(uid, worker), name=f"pod {pod.key}")

    def on_delete(self, pod: Pod) -> None:
        """The informer's news: a pod's object does not exist any more."""
        uid = pod.metadata.uid
        self._services.reporter.forget(uid)
        if uid in self._workers:
            self._workers[uid].vanish()

    def synced(self) -> None:
        """Every pod of this node is known: containers that belong to none of them must end."""
        self._all_known.set()
        orphans = [found for records in self._adopted.values() for found in records.values()]
        self._adopted.clear()
        self._services.allocations.keep_only(self._workers.keys())
        for found in orphans:
            logger.info("pod %s/%s is gone: ending container %s", found.namespace, found.pod, found.container)
            self._orphans.put_nowait(found)

    async def run(self) -> NoReturn:
        """Own the workers, until cancelled; containers outlive this."""
        with contextlib.closing(self._remains):
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._end_orphans(), name="orphans")
                group.create_task(self._sweep(), name="leftovers")
        raise AssertionError("the orphans' task never ends")

    async def drain(self, timeout: float) -> None:
        """End all pods because the node shuts down; waits at most `timeout` seconds."""
        for worker in self._workers.values():
            worker.drain()
        try:
            async with asyncio.timeout(timeout):
                for worker in list(self._workers.values()):
                    await worker.stopped.wait()
        except TimeoutError:
            logger.warning("some pods had not ended %s s after the node began to drain", timeout)

    def log_file(
        self, namespace: str, pod: str, container: str, *, uid: str | None, previous: bool
    ) -> LogSource:
        """Where a container's log is. Raises the directory's errors, which carry the kubelet's messages."""
        worker = self.find(namespace, pod, uid)
        if worker is None:
            raise PodNotFoundError(pod)
        return worker.containers.log_source(container, previous=previous)

    def pods(self) -> list[PodEntry]:
        """See Inventory."""
        return [worker.entry() for worker in self._workers.values()]

    def unclaimed_images(self) -> list[str]:
        """See Collectable: of what an earlier agent left."""
        return [found.attempt.image_id for records in self._adopted.values() for found in records.values()]

    def insights(self) -> list[PodInsight]:
        """What there is to tell of each pod."""
        return [worker.insight() for worker in self._workers.values()]

    def queue(self) -> dict[str, int]:
        """How many pods there are, and what an earlier agent left that is not taken or ended yet."""
        return {
            "workers": len(self._workers),
            "adopted": sum(map(len, self._adopted.values())),
            "orphans": self._orphans.qsize(),
        }

    def active(self) -> list[PodWorker]:
        """The workers of pods that run, or are about to."""
        return [worker for worker in self._workers.values() if worker.is_active]

    def evict(self, uid: str, eviction: Eviction) -> Awaitable[None]:
        """End a pod, if it is there still; done once nothing of it runs."""
        worker = self._workers.get(uid)
        if worker is not None:
            return worker.evict(eviction)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def retry(self) -> None:
        """What starts have failed for may be over: nobody waits for his next try."""
        for worker in self._workers.values():
            worker.retry_all()

    async def collect(self) -> None:
        """Forget containers that have ended and that nobody looks at, because disks are short."""
        for worker in list(self._workers.values()):
            await worker.collect()

    def find(self, namespace: str, pod: str, uid: str | None) -> PodWorker | None:
        """The worker of the pod of this name, and uid unless that is None; the names may be any text."""
        known = self._by_name.get((namespace, pod))
        if known is None or (uid is not None and self.known_as(uid) != known):
            return None
        return self._workers.get(known)

    async def _run(self, uid: str, worker: PodWorker) -> None:
        logs.speak_of(subject(worker.pod))
        await worker.run()
        self._services.probes.forget(uid)
        del self._workers[uid]
        name = (worker.pod.metadata.namespace, worker.pod.metadata.name)
        if self._by_name.get(name) == uid:
            del self._by_name[name]
        self.ended(worker.pod)
        self._remains.later()

    async def _end_orphans(self) -> NoReturn:
        """Kill what runs for no pod; when it has ended, it comes back here and is removed."""
        while True:
            found = await self._orphans.get()
            logs.speak_of(Subject(found.namespace, found.pod, found.uid, found.container))
            try:
                if found.state.exit is None:
                    await self._services.provider.kill(found.state.id)
                    reached("orphan-killed")
                    continue
                await self._services.provider.remove(found.state.id)
                reached("orphan-removed")
            except ProviderError as error:
                logger.warning("container %s of no pod: %s", found.state.id, error)
                continue
            noted = log_directories.link(self._services.config.root_dir, found.uid)
            await asyncio.to_thread(log_directories.remove, noted)

    async def _sweep(self) -> None:
        """Once every pod of this node is known, remove what an earlier agent left of others."""
        await self._all_known.wait()
        run_dir = Path(self._services.config.run_dir)
        for part in (podinfo, etc_files, termination):
            await sweep(part.directory(run_dir, "any").parent, lambda: self._workers, part.remove)
        noted = log_directories.link(self._services.config.root_dir, "any").parent
        await sweep(noted, lambda: self._workers, log_directories.remove)
        await self._services.volumes.remove_others(frozenset(self._workers))


def _nobody(pod: Pod) -> None:
    """Nobody waits for the end of a pod."""
