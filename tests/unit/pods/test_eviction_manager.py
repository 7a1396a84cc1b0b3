"""What the watch over the node does at each look: to whom, after what, and what admission hears of it."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest

from vkubelet import telemetry
from vkubelet.api.containers import Container, ResourceRequirements
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec, Toleration
from vkubelet.config import Config
from vkubelet.pods.eviction import manager as module
from vkubelet.pods.eviction.manager import EvictionManager, observations_of
from vkubelet.pods.eviction.ranking import ContainerUsage, PodUsage
from vkubelet.pods.eviction.thresholds import configured
from vkubelet.pods.machine import FileSystemUsage, MachineUsage
from vkubelet.pods.observed import Eviction, Rejection

MIB = 1 << 20
DISK = FileSystemUsage(capacity=1000 * MIB, available=900 * MIB, used=100 * MIB, inodes=1000, inodes_free=900)
MACHINE = MachineUsage(
    measured_at=0,
    booted_at=0,
    millicores=1000,
    cpu=0,
    memory_capacity=1000 * MIB,
    memory_available=500 * MIB,
    memory_used=0,
    anonymous=0,
    page_faults=0,
    major_page_faults=0,
    swap_capacity=None,
    swap_used=None,
    file_system=DISK,
    container_file_system=DISK,
    log_file_system=DISK,
    processes=10,
    processes_capacity=1000,
)
NOTHING = PodUsage(())
SHORT_OF_MEMORY = dataclasses.replace(MACHINE, memory_available=50 * MIB)
FULL = dataclasses.replace(MACHINE, file_system=dataclasses.replace(DISK, available=50 * MIB))


def make_pod(
    name: str,
    *,
    requests: dict[str, str] | None = None,
    limits: dict[str, str] | None = None,
    priority: int = 0,
    grace: int = 30,
    tolerations: tuple[Toleration, ...] = (),
) -> Pod:
    container = Container(name="main", resources=ResourceRequirements(requests=requests, limits=limits))
    return Pod(
        metadata=ObjectMeta(name=name, namespace="ns", uid=f"uid-{name}"),
        spec=PodSpec(
            containers=[container],
            priority=priority,
            termination_grace_period_seconds=grace,
            tolerations=list(tolerations),
        ),
    )


class Running:
    """A pod that runs. Implements Evictable."""

    def __init__(self, pod: Pod, usage: PodUsage = NOTHING, volume: str | None = None) -> None:
        self.pod = pod
        self.evicted: Eviction | None = None
        self._usage = usage
        self._volume = volume
        self.told = asyncio.Event()
        self.ended = asyncio.Event()

    async def usage(self) -> PodUsage:
        return self._usage

    async def exceeded_volume(self) -> str | None:
        return self._volume

    async def _end(self) -> None:
        await self.ended.wait()

    def evict(self, eviction: Eviction) -> Any:
        self.evicted = eviction
        self.told.set()
        return self._end()


class Machine:
    """The node. Implements PressuredNode."""

    def __init__(self, found: MachineUsage = MACHINE) -> None:
        self.found = found
        self.pressed: list[frozenset[str]] = []
        self.events: list[str] = []
        self.told = asyncio.Event()

    def usage(self) -> MachineUsage:
        return self.found

    def press(self, conditions: frozenset[str]) -> None:
        self.pressed.append(conditions)
        self.told.set()

    def event(self, kind: str, reason: str, message: str) -> None:
        self.events.append(f"{kind} {reason}: {message}")


class Watch:
    """A manager among fakes; a look's waits for ends are closed at once."""

    def __init__(
        self,
        machine: Machine,
        *pods: Running,
        reclaim: Callable[[], None] | None = None,
        **options: Any,
    ) -> None:
        config = Config(node_name="n", **options)
        self.reclaimed = self.recovered = 0
        self._reclaim_to = reclaim
        self.manager = EvictionManager(
            config,
            configured(config),
            machine,
            lambda: [one for one in pods if not one.evicted],
            self._reclaim,
            self._recover,
        )

    def _recover(self) -> None:
        self.recovered += 1

    async def _reclaim(self) -> None:
        self.reclaimed += 1
        if self._reclaim_to is not None:
            self._reclaim_to()

    async def look(self) -> int:
        ends = await self.manager.look()
        for end in ends:
            end.close()  # type: ignore[attr-defined]
        return len(ends)


def memory(amount: int) -> PodUsage:
    return PodUsage((ContainerUsage("main", amount, 0, 0),))


def disk(amount: int) -> PodUsage:
    return PodUsage((ContainerUsage("main", 0, amount, 0),))


async def test_a_node_that_lacks_nothing_evicts_nobody() -> None:
    machine, one = Machine(), Running(make_pod("a"), memory(MIB))
    watch = Watch(machine, one)
    assert await watch.look() == 0
    assert (one.evicted, machine.pressed, machine.events) == (None, [], [])
    assert watch.manager.refuse(make_pod("new")) is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"available": 4096}, "is full"),
        ({"inodes_free": 3}, "has no inodes left"),
        ({"read_only": True}, "is read-only"),
    ],
)
async def test_disks_without_any_room_are_told_of_whatever_the_thresholds(
    change: dict[str, Any], text: str
) -> None:
    machine, one = Machine(), Running(make_pod("a"))
    machine.found = dataclasses.replace(MACHINE, container_file_system=dataclasses.replace(DISK, **change))
    watch = Watch(machine, one, eviction_hard={})
    for _ in range(2):
        await watch.look()
    what = f"the disk of running containers' state {text}"
    told = f"Warning DiskExhausted: {what}: what runs goes on, and nothing can be started that needs it"
    assert (machine.events, one.evicted, watch.recovered) == ([told], None, 0)
    machine.found = MACHINE
    await watch.look()
    assert machine.events[1:] == [f"Normal DiskRecovered: it is over that {what}"]
    assert watch.recovered == 1


async def test_one_pod_at_a_time_goes_when_memory_is_short() -> None:
    machine = Machine(SHORT_OF_MEMORY)
    big = Running(make_pod("big"), memory(80 * MIB))
    small = Running(make_pod("small"), memory(10 * MIB))
    before = _evictions("memory.available")
    watch = Watch(machine, small, big)
    assert await watch.look() == 1
    message = (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container main was using 80Mi, request is 0, has larger consumption of memory. "
    )
    assert big.evicted == Eviction(message, 1, disruption=message)
    assert small.evicted is None
    assert machine.pressed == [frozenset({"MemoryPressure"})]
    assert machine.events == ["Warning EvictionThresholdMet: Attempting to reclaim memory"]
    assert _evictions("memory.available") == before + 1
    assert watch.reclaimed == 0, "what is on disks does not help"
    assert await watch.look() == 1
    assert small.evicted is not None
    assert await watch.look() == 0, "nobody is left"


async def test_critical_pods_stay() -> None:
    machine = Machine(SHORT_OF_MEMORY)
    critical = Running(make_pod("critical", priority=2_000_000_000), memory(400 * MIB))
    usual = Running(make_pod("usual", priority=1_000_000_000), memory(MIB))
    assert await Watch(machine, critical, usual).look() == 1
    assert (critical.evicted, usual.evicted is None) == (None, False)


async def test_what_nobody_needs_goes_before_pods() -> None:
    machine = Machine(FULL)
    one = Running(make_pod("a"), disk(500 * MIB))

    def free() -> None:
        machine.found = MACHINE

    watch = Watch(machine, one, reclaim=free)
    assert await watch.look() == 0
    assert (watch.reclaimed, one.evicted) == (1, None)
    assert machine.pressed == [frozenset({"DiskPressure"})]
    machine.found = FULL
    stubborn = Watch(machine, one)
    assert await stubborn.look() == 1
    assert stubborn.reclaimed == 1
    assert one.evicted is not None
    assert one.evicted.message == (
        "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: 50Mi. "
        "Container main was using 500Mi, request is 0, has larger consumption of ephemeral-storage. "
    )


async def test_a_soft_threshold_gives_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    machine = Machine(SHORT_OF_MEMORY)
    patient = Running(make_pod("patient", grace=20), memory(80 * MIB))
    hasty = Running(make_pod("hasty", grace=2), memory(10 * MIB))
    watch = Watch(
        machine,
        patient,
        hasty,
        eviction_hard={},
        eviction_soft={"memory.available": "100Mi"},
        eviction_soft_grace_period={"memory.available": "30s"},
        eviction_max_pod_grace_period=5,
    )
    assert await watch.look() == 0
    assert machine.pressed == [frozenset({"MemoryPressure"})], "the condition does not wait"
    now += 29
    assert await watch.look() == 0
    now += 1
    assert await watch.look() == 1
    assert patient.evicted is not None
    assert patient.evicted.grace_seconds == 5
    assert await watch.look() == 1
    assert hasty.evicted is not None
    assert hasty.evicted.grace_seconds == 2


async def test_pressure_is_held_after_it_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    machine = Machine(SHORT_OF_MEMORY)
    watch = Watch(machine, eviction_pressure_transition_period=60)
    await watch.look()
    machine.found = MACHINE
    now += 59
    await watch.look()
    assert watch.manager.refuse(make_pod("new")) is not None
    now += 1
    await watch.look()
    assert watch.manager.refuse(make_pod("new")) is None
    assert machine.pressed == [frozenset({"MemoryPressure"}), frozenset()]


async def test_pods_that_break_their_own_limits_go_whatever_the_node_has() -> None:
    machine = Machine()
    volume = Running(make_pod("volume"), volume='Usage of EmptyDir volume "v" exceeds the limit "1Mi". ')
    fat = Running(make_pod("fat", limits={"ephemeral-storage": "1Mi"}), disk(2 * MIB))
    thin = Running(make_pod("thin", limits={"ephemeral-storage": "1Mi"}), disk(MIB))
    watch = Watch(machine, volume, fat, thin)
    assert await watch.look() == 2
    assert volume.evicted == Eviction('Usage of EmptyDir volume "v" exceeds the limit "1Mi". ', 1)
    assert fat.evicted == Eviction(
        "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ", 1
    )
    assert (thin.evicted, machine.pressed) == (None, [])


MEMORY_REFUSAL = Rejection("Evicted", "The node had condition: [MemoryPressure]. ")


@pytest.mark.parametrize(
    ("pod", "found", "expected"),
    [
        (make_pod("besteffort"), SHORT_OF_MEMORY, MEMORY_REFUSAL),
        (make_pod("burstable", requests={"cpu": "1m"}), SHORT_OF_MEMORY, None),
        (make_pod("critical", priority=2_000_000_000), FULL, None),
        (
            make_pod(
                "tolerant",
                tolerations=(
                    Toleration(
                        key="node.kubernetes.io/memory-pressure", operator="Exists", effect="NoSchedule"
                    ),
                ),
            ),
            SHORT_OF_MEMORY,
            None,
        ),
        (
            make_pod("burstable", requests={"cpu": "1m"}),
            FULL,
            Rejection("Evicted", "The node had condition: [DiskPressure]. "),
        ),
        (
            make_pod("burstable", requests={"cpu": "1m"}),
            dataclasses.replace(FULL, memory_available=0),
            Rejection("Evicted", "The node had condition: [DiskPressure MemoryPressure]. "),
        ),
    ],
    ids=lambda value: value.metadata.name if isinstance(value, Pod) else "",
)
async def test_admission_under_pressure(pod: Pod, found: MachineUsage, expected: Rejection | None) -> None:
    watch = Watch(Machine(found))
    await watch.look()
    assert watch.manager.refuse(pod) == expected


async def test_a_machine_that_cannot_be_read_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD", 0.01)

    class Broken(Machine):
        looks = 0

        def usage(self) -> MachineUsage:
            self.looks += 1
            if self.looks == 1:
                raise OSError("no such file")
            return super().usage()

    machine = Broken(SHORT_OF_MEMORY)
    watching = asyncio.create_task(Watch(machine).manager.run())
    async with asyncio.timeout(10):
        await machine.told.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_the_next_look_waits_for_the_end_of_the_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD", 0.01)
    first, second = Running(make_pod("a"), memory(80 * MIB)), Running(make_pod("b"), memory(MIB))
    watching = asyncio.create_task(Watch(Machine(SHORT_OF_MEMORY), first, second).manager.run())
    async with asyncio.timeout(10):
        await first.told.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert second.evicted is None
        first.ended.set()
        await second.told.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_logs_on_a_full_disk_of_their_own_are_told_once_and_evict_nobody() -> None:
    full = dataclasses.replace(DISK, available=50 * MIB, inodes_free=45)
    machine = Machine(dataclasses.replace(MACHINE, log_file_system=full))
    watch = Watch(machine, Running(make_pod("a"), disk(500 * MIB)))
    told = (
        "Warning LogsDiskPressure: the disk of containers' logs is low on available, inodesFree; "
        "no pod is evicted for that"
    )
    assert [await watch.look(), await watch.look()] == [0, 0]
    assert machine.events == [told]
    machine.found = MACHINE
    await watch.look()
    machine.found = dataclasses.replace(MACHINE, log_file_system=full)
    await watch.look()
    assert machine.events == [told, told]


async def test_logs_on_the_nodes_full_disk_are_not_told_apart() -> None:
    machine = Machine(dataclasses.replace(FULL, log_file_system=FULL.file_system))
    await Watch(machine).look()
    assert not [event for event in machine.events if "LogsDiskPressure" in event]


def test_a_file_system_without_a_number_of_inodes_never_lacks_them() -> None:
    found = observations_of(
        dataclasses.replace(MACHINE, file_system=dataclasses.replace(DISK, inodes=0, inodes_free=0))
    )
    assert "nodefs.inodesFree" not in found
    assert found["containerfs.inodesFree"].available == 900


def _evictions(signal: str) -> float:
    return next((one.value for one in telemetry.EVICTIONS.family().samples if signal in str(one.labels)), 0)
