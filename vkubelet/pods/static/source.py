"""The node's static pods: what files name, run one after the other under each name.

It exists to be between those who tell of pods (files, and an API server's informer) and the manager that runs
them, and between the manager and those who are told of statuses: a static pod's object exists here only, so
that its deletion, its status and its end are kept here as an API server would keep them. It must not know how
files are watched.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from vkubelet.api.objects import Pod, PodCondition, PodStatus
from vkubelet.api.times import rfc3339
from vkubelet.pods.fit import SOURCE_ANNOTATION, is_mirror
from vkubelet.pods.manifests.defaults import GRACE_PERIOD
from vkubelet.pods.manifests.reading import Manifest
from vkubelet.pods.reporter import StatusSink
from vkubelet.pods.static.identity import content, warnings

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """Who runs the pods: the manager."""

    def on_change(self, pod: Pod) -> None:
        """A pod is new or has changed."""
        ...

    def on_delete(self, pod: Pod) -> None:
        """A pod's object does not exist any more."""
        ...


class Mirrors(Protocol):
    """Who shows static pods to others, where there is somebody to show them to."""

    def show(self, manifests: Iterable[Manifest], leaving: Iterable[Manifest]) -> None:
        """These are the static pods that run, and those that are about to be gone."""
        ...

    def report(self, pod: Pod, status: PodStatus) -> None:
        """A static pod's status."""
        ...

    def on_change(self, mirror: Pod) -> None:
        """A mirror is new or has changed."""
        ...

    def on_delete(self, mirror: Pod) -> None:
        """A mirror does not exist any more."""
        ...


class NoMirrors:
    """A node that nobody asks for its pods: implements Mirrors."""

    def show(self, manifests: Iterable[Manifest], leaving: Iterable[Manifest]) -> None:
        """See Mirrors."""

    def report(self, pod: Pod, status: PodStatus) -> None:
        """See Mirrors."""

    def on_change(self, mirror: Pod) -> None:
        """See Mirrors."""

    def on_delete(self, mirror: Pod) -> None:
        """See Mirrors."""


@dataclasses.dataclass(slots=True)
class _Entry:
    """A static pod that the manager has; `pod` is its object as it would be read from an API server."""

    manifest: Manifest
    pod: Pod
    leaving: bool = False


class StaticPods:
    """Implements StatusSink for all pods, and what an informer calls; static pods are its own."""

    def __init__(
        self, others: StatusSink, mirrors: Mirrors, *, clock: Callable[[], float] = time.time
    ) -> None:
        """`others` gets the statuses of pods that are not static. `run_with` must be called first."""
        self._others = others
        self._mirrors = mirrors
        self._clock = clock
        self._runner: Runner | None = None
        self._entries: dict[str, _Entry] = {}
        self._wanted: dict[str, Manifest] = {}

    def run_with(self, runner: Runner) -> None:
        """`runner` runs the pods; it calls `ended` when one of them is over and forgotten."""
        self._runner = runner

    def update(self, manifests: Iterable[Manifest]) -> None:
        """These are the static pods from now on. One that has changed ends before it is run anew."""
        self._wanted = {manifest.pod.key: manifest for manifest in manifests}
        for key, entry in self._entries.items():
            wanted = self._wanted.get(key)
            if not entry.leaving and (wanted is None or content(wanted) != content(entry.manifest)):
                self._end(entry)
        for key in self._wanted.keys() - self._entries.keys():
            self._begin(key)
        self._show()

    def ended(self, pod: Pod) -> None:
        """The runner's word that nothing is left of a pod on this node."""
        entry = self._of(pod)
        if entry is None:
            return
        del self._entries[pod.key]
        logger.info("static pod %s has ended", pod.key)
        if pod.key in self._wanted:
            self._begin(pod.key)
        self._show()

    def on_change(self, pod: Pod) -> None:
        """The informer's news: a pod is new or has changed."""
        if is_mirror(pod):
            self._mirrors.on_change(pod)
        else:
            self._running.on_change(_of_api_server(pod))

    def on_delete(self, pod: Pod) -> None:
        """The informer's news: a pod's object does not exist any more."""
        if is_mirror(pod):
            self._mirrors.on_delete(pod)
        else:
            self._running.on_delete(pod)

    def report(self, pod: Pod, status: PodStatus) -> None:
        """See StatusSink. A static pod's object has its status from now on."""
        entry = self._of(pod)
        if entry is None:
            self._others.report(pod, status)
            return
        status = _scheduled(entry.pod, status, self._clock())
        if status != entry.pod.status:
            entry.pod = msgspec.structs.replace(entry.pod, status=status)
            self._running.on_change(entry.pod)
        self._mirrors.report(entry.pod, status)

    async def finish(self, pod: Pod, status: PodStatus | None) -> None:
        """See StatusSink. Nobody has to hear of a static pod's end before it is one."""
        if self._of(pod) is None:
            await self._others.finish(pod, status)
        elif status is not None:
            self.report(pod, status)

    def forget(self, uid: str) -> None:
        """See StatusSink; a static pod's object is not deleted by others."""
        self._others.forget(uid)

    @property
    def _running(self) -> Runner:
        if self._runner is None:
            raise RuntimeError("run_with comes first")
        return self._runner

    def _of(self, pod: Pod) -> _Entry | None:
        entry = self._entries.get(pod.key)
        return entry if entry is not None and entry.pod.metadata.uid == pod.metadata.uid else None

    def _begin(self, key: str) -> None:
        manifest = self._wanted[key]
        logger.info("static pod %s of %s", key, manifest.source)
        for text in warnings(manifest):
            logger.warning("static pod %s of %s: %s", key, manifest.source, text)
        entry = self._entries[key] = _Entry(manifest, manifest.pod)
        self._running.on_change(entry.pod)

    def _end(self, entry: _Entry) -> None:
        """Let the pod be deleted as an API server does it: with its own time to end."""
        entry.leaving = True
        given = entry.pod.spec.termination_grace_period_seconds
        grace = GRACE_PERIOD if given is None else given
        metadata = msgspec.structs.replace(
            entry.pod.metadata,
            deletion_timestamp=rfc3339(self._clock() + grace),
            deletion_grace_period_seconds=grace,
        )
        entry.pod = msgspec.structs.replace(entry.pod, metadata=metadata)
        self._running.on_change(entry.pod)

    def _show(self) -> None:
        running = [entry.manifest for entry in self._entries.values() if not entry.leaving]
        self._mirrors.show(running, [entry.manifest for entry in self._entries.values() if entry.leaving])


def _of_api_server(pod: Pod) -> Pod:
    """The pod without the mark of a static one, which nobody but this node may give it."""
    annotations = pod.metadata.annotations
    if annotations is None or SOURCE_ANNOTATION not in annotations:
        return pod
    kept = {key: value for key, value in annotations.items() if key != SOURCE_ANNOTATION}
    metadata = msgspec.structs.replace(pod.metadata, annotations=kept)
    return msgspec.structs.replace(pod, metadata=metadata)


def _scheduled(pod: Pod, status: PodStatus, now: float) -> PodStatus:
    """The status with the condition that a scheduler sets for others, for which a static pod never waits."""
    before = {condition.type: condition for condition in pod.status.conditions or ()}
    scheduled = before.get("PodScheduled") or PodCondition(
        type="PodScheduled", status="True", last_transition_time=rfc3339(now)
    )
    conditions = [*(status.conditions or ()), scheduled]
    return msgspec.structs.replace(status, conditions=conditions)
