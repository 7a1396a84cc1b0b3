"""What one pod has been given, from its admission on: resources granted, pending and in force.

It exists beside `allocations`, which counts what all pods take together: here is what is kept of one, and
what is told of it in its status and in events. It must not know how a container is held to anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod, PodCondition, ResourceStatus
from vkubelet.api.times import rfc3339
from vkubelet.pods import resize
from vkubelet.pods.allocation_files import Given
from vkubelet.pods.devices import Devices
from vkubelet.pods.fit import Demand, demand
from vkubelet.pods.observed import Rejection, ResizeView
from vkubelet.pods.resize import Step, Update, resources_of, summary, with_resources
from vkubelet.pods.resources import Applied, applied
from vkubelet.pods.sharing import shared, widest

PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
DEFERRED, ERROR = "Deferred", "Error"


class Node(Protocol):
    """What is known of all pods together, as far as one of them asks for it."""

    @property
    def devices(self) -> Devices:
        """The devices of all."""
        ...

    async def check_new(self, pod: Pod) -> Rejection | None:
        """Why a pod that is not counted yet must not run here; None if it may, also as room was made."""
        ...

    def check_resized(self, pod: Pod, counted: Demand) -> Rejection | None:
        """Why a pod that is counted as `counted` must not become what it is now."""
        ...

    def count(self, before: Demand | None, after: Demand | None) -> None:
        """A pod takes something else from now on; None is nothing."""
        ...

    def push(self, uid: str) -> None:
        """A pod's resize is pending."""
        ...

    def retry(self) -> None:
        """Grant what can be granted of the pending resizes, the most urgent first."""
        ...

    def drop(self, uid: str) -> None:
        """A pod takes nothing any more: others may be granted what it had."""
        ...

    def forget(self, uid: str) -> None:
        """A pod is no more."""
        ...

    def event(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        """Tell people."""
        ...

    def write(self, uid: str, given: Given) -> None:
        """Keep what a pod has been given."""
        ...


class PodAllocation:
    """What one pod has been given. `pod` is the pod as it is to be run: with the resources it was granted."""

    def __init__(self, node: Node, pod: Pod, kept: Given | None, wake: Callable[[], None]) -> None:
        """`kept` is what an earlier agent had given it."""
        self._node = node
        self._wanted = pod
        self.wake = wake
        self._resources = kept.resources if kept is not None else resources_of(pod)
        self._applied = kept.applied if kept is not None else self._all_applied()
        self._whole = kept.whole if kept is not None else pod.spec.resources
        self._shared = kept.shared if kept is not None else shared(pod)
        self._kept = kept is not None
        self._counted: Demand | None = None
        self._devices: Mapping[str, list[ResourceStatus]] = {}
        self.pod = with_resources(pod, self._resources)
        known = {condition.type: condition for condition in pod.status.conditions or ()}
        self._pending = known.get(PENDING)
        self._progress = known.get(IN_PROGRESS)

    async def admit(self) -> Rejection | None:
        """Take the pod on, or tell why not. One that is to end already takes nothing."""
        pod = self.pod
        rejection = await self._node.check_new(pod)
        if rejection is None and pod.metadata.deletion_timestamp is None:
            self.hold()
        return rejection

    def hold(self) -> None:
        """Count the pod without asking: it runs already, or has just been admitted."""
        self._node.devices.adopt(self._wanted)
        if self._counted is None:
            self._count(demand(self.pod))
        if not self._kept and not self._resources.is_empty:
            self._write()
        self._decide_later()

    def release(self) -> None:
        """Nothing of the pod runs, and nothing will: it takes nothing any more."""
        self._node.devices.release(self._wanted.metadata.uid)
        if self._counted is not None:
            self._count(None)
            self._pending = self._progress = None
            self._node.drop(self._wanted.metadata.uid)

    def forget(self) -> None:
        """The pod is no more."""
        self.release()
        self._node.forget(self._wanted.metadata.uid)

    def update(self, pod: Pod) -> Pod:
        """The object has changed; the pod as it is to be run."""
        self._wanted = pod
        if self._counted is None:
            # Not admitted: what it asks for now is what it will be judged by.
            self._resources, self._applied = resources_of(pod), self._all_applied()
            self._whole, self._shared = pod.spec.resources, shared(pod)
        self.pod = with_resources(pod, self._resources)
        if self._counted is not None:
            self._decide_later()
        return self.pod

    def urgency(self) -> tuple[bool, int, bool, str]:
        """See `resize.urgency`."""
        since = self._pending.last_transition_time if self._pending is not None else None
        return resize.urgency(self._wanted, self.pod, since)

    def decide(self) -> None:
        """Grant what the spec asks for if it can be granted; else it stays pending."""
        pod = self._wanted
        if self._counted is None or self.pod is pod:
            return
        rejection = self._node.check_resized(pod, self._counted)
        if rejection is not None:
            self._defer(rejection)
            return
        self._resources, self.pod = resources_of(pod), pod
        self._count(demand(pod))
        self._write()
        self._pending = None
        generation = pod.metadata.generation
        self._progress = _condition(IN_PROGRESS, None, "", "", generation)
        self._node.event(pod, "Normal", "ResizeStarted", summary("Pod resize started", pod, generation))
        self.wake()

    def starting(self, pod: Pod, container: Container) -> Applied:
        """A container of the pod, as it was granted then, is about to be started: it will be held to that.

        Returns what it shares with the others, for now no less than they had or shall have; to be told to
        `started`, whatever comes of it.
        """
        self._note(container.name, applied(pod, container))
        wanted = shared(pod)
        return wanted if self._shared is None else widest(self._shared, wanted)

    def started(self, sharing: Applied) -> None:
        """A container was started so that it shares as much with the others.

        If they were held to something else meanwhile, nobody knows which of the two came last.
        """
        if self._shared != sharing:
            self.shares(sharing)
            self.wake()

    @property
    def is_counted(self) -> bool:
        """Whether it takes something now."""
        return self._counted is not None

    def view(self) -> ResizeView:
        """What there is to tell of it."""
        conditions = tuple(item for item in (self._pending, self._progress) if item is not None)
        return ResizeView(self._applied, self._whole, conditions)

    def devices(self) -> Mapping[str, list[ResourceStatus]]:
        """How the devices of its containers are, or were when it let go of them."""
        self._devices = self._node.devices.health(self._wanted.metadata.uid) or self._devices
        return self._devices

    def steps(self, running: Iterable[str]) -> list[Step]:
        """What is to be done for the running containers to be held to what was granted."""
        return resize.steps(self.pod, self._applied, running)

    def sharing(self) -> tuple[Applied, Applied] | None:
        """What all containers are held to together, and what was granted; None if that is the same."""
        before, after = self._shared, shared(self.pod)
        return None if before == after else (before or after, after)

    def shares(self, held_to: Applied) -> None:
        """The containers are held to something else together now."""
        self._shared = held_to
        self._write()

    def carried_out(self, update: Update) -> None:
        """A running container is held to something else now."""
        lowered = update.after.memory_limit < update.before.memory_limit
        self._note(update.container, update.after)
        if lowered:
            self._node.retry()

    def failed(self, message: str) -> None:
        """The containers cannot be held to what was granted, for now."""
        before = self._progress
        generation = before.observed_generation if before is not None else self.pod.metadata.generation
        self._progress = _condition(IN_PROGRESS, before, ERROR, message, generation)
        if before is None or (before.reason, before.message) != (ERROR, message):
            text = summary("Pod resize error", self.pod, generation, message)
            self._node.event(self.pod, "Warning", "ResizeError", text)

    def completed(self) -> None:
        """No step is left: a resize that was in progress is done."""
        if self._whole != self._resources.whole:
            self._whole = self._resources.whole
            self._write()
        if self._progress is None:
            return
        generation, self._progress = self._progress.observed_generation, None
        text = summary("Pod resize completed", self.pod, generation)
        self._node.event(self.pod, "Normal", "ResizeCompleted", text)

    def _decide_later(self) -> None:
        """What was asked for may differ from what was granted."""
        if self.pod is self._wanted:
            self._pending = None
            return
        self._node.push(self._wanted.metadata.uid)
        self._node.retry()

    def _defer(self, rejection: Rejection) -> None:
        pod, before = self._wanted, self._pending
        generation = pod.metadata.generation
        self._pending = _condition(PENDING, before, DEFERRED, rejection.message, generation)
        self._node.push(pod.metadata.uid)
        if before is None or (before.reason, before.observed_generation) != (DEFERRED, generation):
            text = summary(f"Pod resize {DEFERRED}", pod, generation, rejection.message)
            self._node.event(pod, "Warning", "ResizeDeferred", text)
        self.wake()

    def _all_applied(self) -> dict[str, Applied]:
        spec = self._wanted.spec
        containers = [*(spec.init_containers or ()), *(spec.containers or ())]
        return {item.name: applied(self._wanted, item) for item in containers}

    def _note(self, container: str, held_to: Applied) -> None:
        if self._applied.get(container) != held_to:
            self._applied = {**self._applied, container: held_to}
            self._write()

    def _count(self, after: Demand | None) -> None:
        self._node.count(self._counted, after)
        self._counted = after

    def _write(self) -> None:
        given = Given(
            resources=self._resources, applied=self._applied, whole=self._whole, shared=self._shared
        )
        self._node.write(self._wanted.metadata.uid, given)
        self._kept = True


def _condition(
    kind: str, before: PodCondition | None, reason: str, message: str, generation: int
) -> PodCondition:
    """The kubelet's updatedPodResizeCondition: its transition is that of its reason."""
    now = rfc3339(time.time())
    same = before is not None and before.reason == reason
    return PodCondition(
        type=kind,
        status="True",
        reason=reason,
        message=message,
        last_probe_time=now,
        last_transition_time=before.last_transition_time if before is not None and same else now,
        observed_generation=generation,
    )
