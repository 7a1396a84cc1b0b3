"""Watches what the node has left, and ends pods before it runs out: one loop for the node.

It exists to do what `thresholds` and `ranking` decide: to observe, to free what nobody needs first, and to
evict one pod at a time. It looks every ten seconds, as a kubelet does, for no kernel tells of a file system
that fills. It must not know how a pod ends, nor how the node is told of.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NoReturn, Protocol

from vkubelet import logs, telemetry
from vkubelet.api.objects import Pod
from vkubelet.config import Config, Taint
from vkubelet.pods.affinity import untolerated
from vkubelet.pods.eviction.exhaustion import exhausted
from vkubelet.pods.eviction.ranking import PodUsage, has_storage_limit, limit_message, low_message, ranked
from vkubelet.pods.eviction.thresholds import (
    INODES,
    STORAGE,
    Observation,
    Observations,
    Pressure,
    Threshold,
    look,
    met,
    most_urgent,
)
from vkubelet.pods.fit import is_critical
from vkubelet.pods.machine import FileSystemUsage, MachineUsage
from vkubelet.pods.observed import Eviction, Rejection
from vkubelet.pods.qos import BEST_EFFORT, qos_class
from vkubelet.pods.text import subject

logger = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds between two looks: the kubelet's evictionMonitoringPeriod."""
CLEANUP_TIMEOUT = 30.0
"""Seconds for which an evicted pod's end is waited for before the next is looked for."""
IMMEDIATELY = 1
"""Seconds that a pod gets at a hard threshold, or when it broke a limit of its own."""
_DURING_WALKS = 10.0
"""A pod's files are looked at no longer than one part of so many of the time."""

_MEMORY_TAINT = Taint(key="node.kubernetes.io/memory-pressure", effect="NoSchedule")


class Evictable(Protocol):
    """A pod that runs on this node."""

    @property
    def pod(self) -> Pod:
        """Its object."""
        ...

    async def usage(self) -> PodUsage:
        """What it uses now."""
        ...

    async def exceeded_volume(self) -> str | None:
        """Why it is evicted for a volume that holds more than it may; None if none does."""
        ...

    def evict(self, eviction: Eviction) -> Awaitable[None]:
        """End it; done once nothing of it runs."""
        ...


class PressuredNode(Protocol):
    """The node whose resources are watched."""

    def usage(self) -> MachineUsage:
        """What the machine has and uses. Blocks. Raises OSError."""
        ...

    def press(self, conditions: frozenset[str]) -> None:
        """These pressure conditions hold, and no others."""
        ...

    def event(self, kind: str, reason: str, message: str) -> None:
        """Tell people something about the node."""
        ...


class EvictionManager:
    """One for the node. Implements what admission asks under pressure."""

    def __init__(
        self,
        config: Config,
        thresholds: Iterable[Threshold],
        node: PressuredNode,
        pods: Callable[[], Sequence[Evictable]],
        reclaim: Callable[[], Awaitable[None]],
        recovered: Callable[[], None],
    ) -> None:
        """`pods` are those that run something; `reclaim` frees what nobody needs on the node's disks.

        `recovered` is called when a disk has room again that had none.
        """
        self._config = config
        self._thresholds = tuple(thresholds)
        self._node = node
        self._pods = pods
        self._reclaim = reclaim
        self._recovered = recovered
        self._exhausted = frozenset[str]()
        self._pressure = Pressure()
        self._conditions: frozenset[str] = frozenset()
        self._walked: dict[str, float] = {}
        self._logs_short = False

    def refuse(self, pod: Pod) -> Rejection | None:
        """Why a pod must not start or grow while the node is under pressure (the kubelet's Admit)."""
        if not self._conditions or is_critical(pod):
            return None
        if self._conditions == {"MemoryPressure"}:
            tolerations = pod.spec.tolerations or ()
            tolerates = untolerated([_MEMORY_TAINT], tolerations, frozenset({"NoSchedule"})) is None
            if tolerates or qos_class(pod) != BEST_EFFORT:
                return None
        return Rejection("Evicted", f"The node had condition: [{' '.join(sorted(self._conditions))}]. ")

    async def run(self) -> NoReturn:
        """Watch, until cancelled."""
        while True:
            ends: list[Awaitable[None]] = []
            try:
                ends = await self.look()
            except OSError as error:
                logger.warning("what the node has left is not known: %s", error)
            if ends:
                await self._wait_for(ends)
            else:
                await asyncio.sleep(PERIOD)

    async def look(self) -> list[Awaitable[None]]:
        """Look once, and do what is needed; the ends of the pods that were evicted. Raises OSError."""
        observations = await self._observe()
        now = time.monotonic()
        self._pressure = look(self._pressure, self._thresholds, observations, now)
        self._show(self._pressure.conditions(now, self._config.eviction_pressure_transition_period))
        pods = self._pods()
        evicted = await self._enforce_limits(pods)
        threshold = most_urgent(self._pressure.due)
        if evicted or threshold is None:
            return evicted
        resource = threshold.resource
        self._node.event("Warning", "EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if resource in (STORAGE, INODES):
            await self._reclaim()
            observations = await self._observe()
            if not met(self._thresholds, observations, reclaim=True):
                return []
        return await self._evict_one(pods, threshold, observations)

    async def _observe(self) -> Observations:
        machine = await asyncio.to_thread(self._node.usage)
        self._tell_exhausted(exhausted(machine))
        short = short_of_logs(self._thresholds, machine)
        if short and not self._logs_short:
            text = f"the disk of containers' logs is low on {', '.join(short)}; no pod is evicted for that"
            self._node.event("Warning", "LogsDiskPressure", text)
        self._logs_short = bool(short)
        return observations_of(machine)

    def _tell_exhausted(self, found: frozenset[str]) -> None:
        before, self._exhausted = self._exhausted, found
        if found - before:
            text = f"{', '.join(sorted(found))}: what runs goes on, and nothing can be started that needs it"
            logger.warning("%s", text)
            self._node.event("Warning", "DiskExhausted", text)
        elif before - found:
            text = f"it is over that {', '.join(sorted(before - found))}"
            logger.warning("%s", text)
            self._node.event("Normal", "DiskRecovered", text)
            self._recovered()

    def _show(self, conditions: frozenset[str]) -> None:
        if conditions != self._conditions:
            logger.warning("node conditions: %s", ", ".join(sorted(conditions)) or "no pressure any more")
            self._conditions = conditions
            self._node.press(conditions)

    async def _enforce_limits(self, pods: Sequence[Evictable]) -> list[Awaitable[None]]:
        """Evict pods that hold more on disk than their own limits allow (localStorageEviction)."""
        evicted = []
        for one in pods:
            message = await self._broken_limit(one)
            if message is not None and not is_critical(one.pod):
                evicted.append(self._evict(one, Eviction(message, IMMEDIATELY), "localstorage"))
        uids = {one.pod.metadata.uid for one in pods}
        self._walked = {uid: at for uid, at in self._walked.items() if uid in uids}
        return evicted

    async def _broken_limit(self, one: Evictable) -> str | None:
        uid, began = one.pod.metadata.uid, time.monotonic()
        if began < self._walked.get(uid, 0.0):
            return None
        message = await one.exceeded_volume()
        if message is None and has_storage_limit(one.pod):
            message = limit_message(one.pod, await one.usage())
        ended = time.monotonic()
        self._walked[uid] = ended + _DURING_WALKS * (ended - began)
        return message

    async def _evict_one(
        self, pods: Iterable[Evictable], threshold: Threshold, observations: Observations
    ) -> list[Awaitable[None]]:
        """Evict the first pod, in the order of `ranking`, that may be evicted."""
        candidates = {one.pod.metadata.uid: one for one in pods if not is_critical(one.pod)}
        measured = [(one.pod, await one.usage()) for one in candidates.values()]
        if not measured:
            logger.warning("node is low on %s, and there is no pod to evict", threshold.resource)
            return []
        first = ranked(threshold.resource, measured)[0]
        one = candidates[first[0].metadata.uid]
        message = low_message(threshold.resource, first, self._pressure.due, observations)
        grace = IMMEDIATELY if threshold.is_hard else self._soft_grace(one.pod)
        return [self._evict(one, Eviction(message, grace, disruption=message), threshold.signal)]

    def _soft_grace(self, pod: Pod) -> int:
        most = self._config.eviction_max_pod_grace_period
        wanted = pod.spec.termination_grace_period_seconds
        return most if wanted is None else min(most, wanted)

    def _evict(self, one: Evictable, eviction: Eviction, signal: str) -> Awaitable[None]:
        with logs.about(subject(one.pod)):
            logger.warning("pod %s is evicted: %s", one.pod.key, eviction.message)
        telemetry.EVICTIONS.inc(signal)
        return one.evict(eviction)

    async def _wait_for(self, ends: Iterable[Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(CLEANUP_TIMEOUT):
                for end in ends:
                    await end
        except TimeoutError:
            logger.warning("evicted pods had not ended after %.0f s", CLEANUP_TIMEOUT)


def observations_of(machine: MachineUsage) -> Observations:
    """The signals of what a machine has left. Images are on the file system of the node."""
    found = {
        "memory.available": Observation(machine.memory_available, machine.memory_capacity),
        "pid.available": Observation(
            max(machine.processes_capacity - machine.processes, 0), machine.processes_capacity
        ),
    }
    for name, system in (
        ("nodefs", machine.file_system),
        ("imagefs", machine.file_system),
        ("containerfs", machine.container_file_system),
    ):
        found |= _of_file_system(name, system)
    return found


def short_of_logs(thresholds: Iterable[Threshold], machine: MachineUsage) -> list[str]:
    """What the file system of logs lacks by the thresholds of the node's, which does not lack it itself."""
    known = tuple(thresholds)
    own = met(known, _of_file_system("nodefs", machine.file_system))
    crossed = met(known, _of_file_system("nodefs", machine.log_file_system))
    lacking = (one.signal.removeprefix("nodefs.") for one in crossed if one not in own)
    return list(dict.fromkeys(lacking))


def _of_file_system(name: str, system: FileSystemUsage) -> dict[str, Observation]:
    found = {f"{name}.available": Observation(system.available, system.capacity)}
    if system.inodes:  # one that has no fixed number of them (btrfs) reports none at all: that is no shortage
        found[f"{name}.inodesFree"] = Observation(system.inodes_free, system.inodes)
    return found
