"""What each pod of the node has been given: admission by what fits, and resizes as they can be granted.

It exists because the node's resources are shared: one place must count what is taken, and know in which order
pending resizes are tried. The rules are those of pkg/kubelet/allocation; the decisions are made by `fit`,
`preemption` and `resize`. It must not know how a container is held to anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import NoReturn, Protocol

from vkubelet import telemetry
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod, pod_reference
from vkubelet.pods.allocation_files import AllocationFiles, Given
from vkubelet.pods.devices import DeviceError, Devices
from vkubelet.pods.fit import (
    NODE_AFFINITY,
    Demand,
    Insufficient,
    NodeView,
    Used,
    failures,
    is_critical,
    wrong_system,
)
from vkubelet.pods.observed import Eviction, Rejection
from vkubelet.pods.pod_allocation import PodAllocation
from vkubelet.pods.preemption import NoVictimsError, preempted, victims

logger = logging.getLogger(__name__)

RETRY_SECONDS = 180.0
"""After so long, what is pending is tried again though nothing is known to have changed."""

_PREEMPTIONS = 3
"""How often room is made for one pod: others may take it meanwhile."""
_ENDING, _AT_LEAST = 1.5, 10.0
"""How much more than its grace period a pod that makes room may take to end, and how many seconds beyond."""


class NodeSource(Protocol):
    """Tells of the node that pods must fit on."""

    def view(self) -> NodeView:
        """As it was last seen."""
        ...

    async def refresh(self) -> NodeView:
        """As it is now, or as it was last seen if nobody can tell."""
        ...


class Allocations:
    """One for the node; implements pod_allocation.Node.

    `refuse` may keep a pod from starting or growing, for the node's own sake.
    `evict` ends the pod of a uid; what it returns is done when nothing of it runs, nor takes anything.
    """

    def __init__(
        self,
        files: AllocationFiles,
        node: NodeSource,
        recorder: Recorder,
        refuse: Callable[[Pod], Rejection | None],
        evict: Callable[[str, Eviction], Awaitable[None]],
        devices: Devices,
    ) -> None:
        """All of them outlive this."""
        self._files = files
        self._node = node
        self._recorder = recorder
        self._refuse = refuse
        self._evict = evict
        self.devices = devices
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
        self.devices.keep_only(uids)
        self._ready = True
        self.retry()

    async def run(self) -> NoReturn:
        """Try again from time to time what is pending."""
        while True:
            await self._waits.wait()
            await asyncio.sleep(RETRY_SECONDS)
            self.retry()

    def retry(self) -> None:
        """See Node."""
        if not self._ready:
            return
        waiting = [self._pods[uid] for uid in self._pending if uid in self._pods]
        self._pending.clear()
        for one in sorted(waiting, key=PodAllocation.urgency):
            one.decide()
        if not self._pending:
            self._waits.clear()

    def push(self, uid: str) -> None:
        """See Node."""
        self._pending.add(uid)
        self._waits.set()

    async def check_new(self, pod: Pod) -> Rejection | None:
        """See Node.

        If it may, its containers have their devices: as with a kubelet, they are chosen before all else.
        A pod that is to end already has none, and no room is made for it.
        """
        found = self._refuse(pod)
        if found is not None:
            return found
        if pod.metadata.deletion_timestamp is not None:
            return await self._check_fit(pod)
        try:
            await self.devices.allocate(pod)
        except DeviceError as error:
            text = f"Allocate failed due to {error}, which is unexpected"
            return Rejection("UnexpectedAdmissionError", text)
        found = await self._check_fit(pod)
        if found is not None:
            self.devices.release(pod.metadata.uid)
        return found

    async def _check_fit(self, pod: Pod) -> Rejection | None:
        for _ in range(_PREEMPTIONS):
            taken = self.devices.taken(pod.metadata.uid)
            node = self._node.view().at_least(taken)
            found = self._refuse(pod) or wrong_system(pod, node)
            if found is not None:
                return found
            misfits = failures(pod, node, self._used)
            if misfits and all(misfit == NODE_AFFINITY for misfit in misfits):
                # Its labels may have changed a moment ago, for this very pod.
                misfits = failures(pod, (await self._node.refresh()).at_least(taken), self._used)
            if not misfits:
                return None
            if pod.metadata.deletion_timestamp is not None or not is_critical(pod):
                return misfits[0].rejection
            others = [misfit for misfit in misfits if not isinstance(misfit, Insufficient)]
            if others:
                return others[0].rejection
            rejection = await self._make_room(pod, [one for one in misfits if isinstance(one, Insufficient)])
            if rejection is not None:
                return rejection
        return misfits[0].rejection

    async def _make_room(self, pod: Pod, misfits: Iterable[Insufficient]) -> Rejection | None:
        """End pods of less importance; why that would not help, or None once they have ended."""
        missing = {misfit.resource: misfit.missing for misfit in misfits}
        counted = [one.pod for one in self._pods.values() if one.is_counted]
        try:
            chosen = victims(pod, counted, missing)
        except NoVictimsError as error:
            return Rejection(
                "UnexpectedAdmissionError",
                "Unexpected error while attempting to recover from admission failure: preemption: "
                f"error finding a set of pods to preempt: {error}",
            )
        for victim in chosen:
            logger.warning("pod %s makes room for pod %s", victim.key, pod.key)
            telemetry.PREEMPTIONS.inc(next(iter(missing)))
        evictions = [(victim.metadata.uid, preempted(victim)) for victim in chosen]
        ends = [self._evict(uid, eviction) for uid, eviction in evictions]
        longest = max(eviction.grace_seconds for _, eviction in evictions)
        try:
            async with asyncio.timeout(_ENDING * longest + _AT_LEAST):
                for end in ends:
                    await end
        except TimeoutError:
            logger.warning("the pods that make room for pod %s have not ended yet", pod.key)
        return None

    def check_resized(self, pod: Pod, counted: Demand) -> Rejection | None:
        """See Node."""
        self._used.remove(counted)
        try:
            return self._check(pod, self._node.view().at_least(self.devices.taken(pod.metadata.uid)))
        finally:
            self._used.add(counted)

    def count(self, before: Demand | None, after: Demand | None) -> None:
        """See Node."""
        if before is not None:
            self._used.remove(before)
        if after is not None:
            self._used.add(after)

    def wake(self, uid: str) -> None:
        """There is news of a pod's devices."""
        if uid in self._pods:
            self._pods[uid].wake()

    def drop(self, uid: str) -> None:
        """See Node."""
        self._pending.discard(uid)
        self.retry()

    def forget(self, uid: str) -> None:
        """See Node."""
        self._pods.pop(uid, None)
        self._files.forget(uid)
        self.drop(uid)

    def event(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        """See Node."""
        self._recorder.event(pod_reference(pod), kind, reason, message)

    def write(self, uid: str, given: Given) -> None:
        """See Node."""
        self._files.write(uid, given)

    def _check(self, pod: Pod, node: NodeView) -> Rejection | None:
        found = self._refuse(pod) or wrong_system(pod, node)
        if found is not None:
            return found
        misfits = failures(pod, node, self._used)
        return misfits[0].rejection if misfits else None
