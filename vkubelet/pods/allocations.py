"""What each pod of the node has been given: admission by what fits, and resizes as they can be granted.

It exists because the node's resources are shared: one place must count what is taken, and know in which order
pending resizes are tried. The rules are those of pkg/kubelet/allocation; the decisions are made by `fit` and
`resize`. It must not know how a container is held to anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from typing import NoReturn, Protocol

from vkubelet.api.containers import Container
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod, PodCondition, pod_reference
from vkubelet.api.times import rfc3339
from vkubelet.pods import resize
from vkubelet.pods.allocation_files import AllocationFiles, Given
from vkubelet.pods.fit import NODE_AFFINITY, Demand, NodeView, Used, demand, failures, wrong_system
from vkubelet.pods.observed import Rejection, ResizeView
from vkubelet.pods.resize import Step, Update, resources_of, summary, with_resources
from vkubelet.pods.resources import Applied, applied
from vkubelet.pods.sharing import shared

RETRY_SECONDS = 180.0
"""After so long, what is pending is tried again though nothing is known to have changed."""

PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
DEFERRED, ERROR = "Deferred", "Error"


class NodeSource(Protocol):
    """Tells of the node that pods must fit on."""

    def view(self) -> NodeView:
        """As it was last seen."""
        ...

    async def refresh(self) -> NodeView:
        """As it is now, or as it was last seen if nobody can tell."""
        ...


class Allocations:
    """One for the node. `refuse` may keep a pod from starting or growing, for the node's own sake."""

    def __init__(
        self,
        files: AllocationFiles,
        node: NodeSource,
        recorder: Recorder,
        refuse: Callable[[Pod], Rejection | None],
    ) -> None:
        """All of them outlive this."""
        self._files = files
        self._node = node
        self._recorder = recorder
        self._refuse = refuse
        self._used = Used()
        self._pods: dict[str, PodAllocation] = {}
        self._pending: set[str] = set()
        self._waits = asyncio.Event()
        self._ready = False

    def pod(self, pod: Pod, wake: Callable[[], None]) -> PodAllocation:
        """What a pod has been given, nothing if it is new; `wake` is called when that changes."""
        found = PodAllocation(self, pod, self._files.read(pod.metadata.uid), wake)
        self._pods[pod.metadata.uid] = found
        return found

    def keep_only(self, uids: Collection[str]) -> None:
        """These are all pods there are: forget others, and decide on resizes from now on."""
        self._files.keep_only(uids)
        self._ready = True
        self.retry()

    async def run(self) -> NoReturn:
        """Try again from time to time what is pending."""
        while True:
            await self._waits.wait()
            await asyncio.sleep(RETRY_SECONDS)
            self.retry()

    def retry(self) -> None:
        """Grant what can be granted of the pending resizes, the most urgent first."""
        if not self._ready:
            return
        waiting = [self._pods[uid] for uid in self._pending if uid in self._pods]
        self._pending.clear()
        for one in sorted(waiting, key=PodAllocation.urgency):
            one.decide()
        if not self._pending:
            self._waits.clear()

    def push(self, uid: str) -> None:
        """A pod's resize is pending."""
        self._pending.add(uid)
        self._waits.set()

    async def check_new(self, pod: Pod) -> Rejection | None:
        """Why a pod that is not counted yet must not run here; None if it may."""
        found = self._check(pod, self._node.view())
        if found == NODE_AFFINITY.rejection:
            # Its labels may have changed a moment ago, for this very pod.
            found = self._check(pod, await self._node.refresh())
        return found

    def check_resized(self, pod: Pod, counted: Demand) -> Rejection | None:
        """Why a pod that is counted as `counted` must not become what it is now."""
        self._used.remove(counted)
        try:
            return self._check(pod, self._node.view())
        finally:
            self._used.add(counted)

    def count(self, before: Demand | None, after: Demand | None) -> None:
        """A pod takes something else from now on; None is nothing."""
        if before is not None:
            self._used.remove(before)
        if after is not None:
            self._used.add(after)

    def drop(self, uid: str) -> None:
        """A pod takes nothing any more: others may be granted what it had."""
        self._pending.discard(uid)
        self.retry()

    def forget(self, uid: str) -> None:
        """A pod is no more."""
        self._pods.pop(uid, None)
        self._files.forget(uid)
        self.drop(uid)

    def event(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        """Tell people."""
        self._recorder.event(pod_reference(pod), kind, reason, message)

    def write(self, uid: str, given: Given) -> None:
        """Keep what a pod has been given."""
        self._files.write(uid, given)

    def _check(self, pod: Pod, node: NodeView) -> Rejection | None:
        found = self._refuse(pod) or wrong_system(pod, node)
        if found is not None:
            return found
        misfits = failures(pod, node, self._used)
        return misfits[0].rejection if misfits else None


class PodAllocation:
    """What one pod has been given. `pod` is the pod as it is to be run: with the resources it was granted."""

    def __init__(self, node: Allocations, pod: Pod, kept: Given | None, wake: Callable[[], None]) -> None:
        """`kept` is what an earlier agent had given it."""
        self._node = node
        self._wanted = pod
        self._wake = wake
        self._resources = kept.resources if kept is not None else resources_of(pod)
        self._applied = kept.applied if kept is not None else self._all_applied()
        self._whole = kept.whole if kept is not None else pod.spec.resources
        self._shared = kept.shared if kept is not None else shared(pod)
        self._kept = kept is not None
        self._counted: Demand | None = None
        self.pod = with_resources(pod, self._resources)
        known = {condition.type: condition for condition in pod.status.conditions or ()}
        self._pending = known.get(PENDING)
        self._progress = known.get(IN_PROGRESS)

    async def admit(self) -> Rejection | None:
        """Take the pod on, or tell why not."""
        rejection = await self._node.check_new(self.pod)
        if rejection is None:
            self.hold()
        return rejection

    def hold(self) -> None:
        """Count the pod without asking: it runs already, or has just been admitted."""
        if self._counted is None:
            self._count(demand(self.pod))
        if not self._kept:
            self._write()
        self._decide_later()

    def release(self) -> None:
        """Nothing of the pod runs, and nothing will: it takes nothing any more."""
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
        self._wake()

    def starting(self, pod: Pod, container: Container) -> Applied:
        """A container of the pod, as it was granted then, is about to be started: it will be held to that.

        Returns what it shares with the others.
        """
        self._note(container.name, applied(pod, container))
        return self._shared or shared(pod)

    def view(self) -> ResizeView:
        """What there is to tell of it."""
        conditions = tuple(item for item in (self._pending, self._progress) if item is not None)
        return ResizeView(self._applied, self._whole, conditions)

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
        self._wake()

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
