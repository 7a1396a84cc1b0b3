"""Who is given what: admission, resizes that are granted, deferred and tried again, and a restart between."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from vkubelet.api.containers import Container, ContainerResizePolicy, ResourceRequirements
from vkubelet.api.objects import ObjectMeta, ObjectReference, Pod, PodCondition, PodSpec
from vkubelet.pods.allocation_files import AllocationFiles
from vkubelet.pods.allocations import Allocations
from vkubelet.pods.devices import Devices, NoDevices
from vkubelet.pods.fit import NodeView
from vkubelet.pods.observed import Eviction, Rejection
from vkubelet.pods.pod_allocation import PodAllocation
from vkubelet.pods.resize import Applied, Restart, Update


class Node:
    """A node of three cores whose labels somebody changes."""

    def __init__(self) -> None:
        self.labels = {"zone": "a"}
        self.fresh = {"zone": "b"}

    def view(self) -> NodeView:
        return NodeView("here", self.labels, (), {"cpu": 3000, "memory": 1 << 30, "pods": 10}, 1 << 30)

    async def refresh(self) -> NodeView:
        self.labels = self.fresh
        return self.view()


class Events:
    """What people are told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def event(self, ref: ObjectReference, type: str, reason: str, message: str) -> None:  # noqa: A002
        self.told.append((ref.name, reason))


def make_pod(name: str, cpu: str | None, generation: int = 1, **spec: Any) -> Pod:
    requests = ResourceRequirements(requests={"cpu": cpu} if cpu else None)
    return Pod(
        metadata=ObjectMeta(name=name, namespace="ns", uid=f"uid-{name}", generation=generation),
        spec=PodSpec(containers=[Container(name="main", resources=requests)], **spec),
    )


class World:
    """A node's allocations, as several agents in turn have them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.node = Node()
        self.events = Events()
        self.woken: list[str] = []
        self.refusal: Rejection | None = None
        self.evicted: list[tuple[str, Eviction]] = []
        self.immortal: set[str] = set()
        self.taken: dict[str, PodAllocation] = {}
        self.devices: Devices = NoDevices()
        self.restart()
        self.allocations.keep_only(())

    def restart(self) -> None:
        self.allocations = Allocations(
            AllocationFiles(self.directory),
            self.node,
            self.events,
            lambda pod: self.refusal,
            self.evict,
            self.devices,
        )

    async def evict(self, uid: str, eviction: Eviction) -> None:
        self.evicted.append((uid, eviction))
        if uid not in self.immortal:
            self.taken[uid].release()

    def pod(self, pod: Pod) -> PodAllocation:
        found = self.allocations.pod(pod, lambda: self.woken.append(pod.metadata.name))
        self.taken[pod.metadata.uid] = found
        return found

    async def admitted(self, name: str, cpu: str | None, **spec: Any) -> PodAllocation:
        found = self.pod(make_pod(name, cpu, **spec))
        assert await found.admit() is None
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "allocations")


def cpu(allocation: PodAllocation) -> object:
    (container,) = allocation.pod.spec.containers or ()
    return (container.resources.requests or {})["cpu"]


def condition(allocation: PodAllocation) -> tuple[str, str, int] | None:
    found = allocation.view().conditions
    return (found[0].type, found[0].reason, found[0].observed_generation) if found else None


async def test_pods_are_admitted_while_they_fit(world: World) -> None:
    one = await world.admitted("one", "2")
    other = world.pod(make_pod("other", "2"))
    rejection = await other.admit()
    assert rejection is not None
    assert rejection.reason == "OutOfcpu"
    assert rejection.message.endswith("cpu, requested: 2000, used: 2000, capacity: 3000")
    one.release()
    assert await other.admit() is None
    one.forget()
    assert [path.name for path in world.directory.iterdir()] == ["uid-other"]


async def test_a_label_may_be_new(world: World) -> None:
    assert await world.pod(make_pod("one", "1", node_selector={"zone": "b"})).admit() is None
    rejection = await world.pod(make_pod("two", "1", node_selector={"zone": "c"})).admit()
    assert rejection is not None
    assert rejection.reason == "NodeAffinity"


async def test_the_node_may_refuse_everybody(world: World) -> None:
    world.refusal = Rejection("Evicted", "The node had condition: [MemoryPressure]. ")
    assert await world.pod(make_pod("one", "1")).admit() == world.refusal


async def test_a_resize_that_fits_is_granted(world: World) -> None:
    one = await world.admitted("one", "1")
    wanted = make_pod("one", "2500m", 2)
    assert one.update(wanted) is wanted
    assert condition(one) == ("PodResizeInProgress", "", 2)
    (step,) = one.steps(["main"])
    assert step == Update("main", Applied(cpu_request=1000), Applied(cpu_request=2500))
    one.carried_out(step)
    assert one.view().applied == {"main": Applied(cpu_request=2500)}
    assert one.steps(["main"]) == []
    one.completed()
    assert one.view().conditions == ()
    assert world.events.told == [("one", "ResizeStarted"), ("one", "ResizeCompleted")]


async def test_one_that_does_not_fit_waits_for_room(world: World) -> None:
    one, two = await world.admitted("one", "1"), await world.admitted("two", "1500m")
    one.update(make_pod("one", "2", 2))
    assert condition(one) == ("PodResizePending", "Deferred", 2)
    assert cpu(one) == "1"
    assert one.steps(["main"]) == []
    (told,) = one.view().conditions
    assert told.message == (
        "Node didn't have enough resource: cpu, requested: 2000, used: 1500, capacity: 3000"
    )
    world.allocations.retry()
    assert world.events.told == [("one", "ResizeDeferred")]
    world.woken.clear()
    two.release()
    assert cpu(one) == "2"
    assert world.woken == ["one"]
    assert world.events.told[-1] == ("one", "ResizeStarted")


async def test_a_wish_can_be_taken_back(world: World) -> None:
    one = await world.admitted("one", "1")
    one.update(make_pod("one", "5", 2))
    assert condition(one) == ("PodResizePending", "Deferred", 2)
    back = make_pod("one", "1000m", 3)
    assert one.update(back) is back
    assert one.view().conditions == ()


async def test_the_most_urgent_goes_first(world: World) -> None:
    big = await world.admitted("big", "2")
    low = await world.admitted("low", "100m")
    high = await world.admitted("high", "100m", priority=100)
    low.update(make_pod("low", "2", 2))
    high.update(make_pod("high", "2", 2, priority=100))
    assert condition(low) == condition(high) == ("PodResizePending", "Deferred", 2)
    big.release()
    assert (cpu(low), cpu(high)) == ("100m", "2")


async def test_one_that_shrinks_makes_room(world: World) -> None:
    one, two = await world.admitted("one", "1"), await world.admitted("two", "2")
    one.update(make_pod("one", "2", 2))
    two.update(make_pod("two", "500m", 2))
    assert (cpu(one), cpu(two)) == ("2", "500m")


async def test_pressure_defers_too(world: World) -> None:
    one = await world.admitted("one", "1")
    world.refusal = Rejection("Evicted", "The node had condition: [MemoryPressure]. ")
    one.update(make_pod("one", "2", 2))
    assert condition(one) == ("PodResizePending", "Deferred", 2)
    world.refusal = None
    world.allocations.retry()
    assert cpu(one) == "2"


async def test_what_cannot_be_done_is_told_once(world: World) -> None:
    one = await world.admitted("one", "1")
    one.update(make_pod("one", "2", 2))
    one.failed("no")
    one.failed("no")
    assert condition(one) == ("PodResizeInProgress", "Error", 2)
    assert [reason for _, reason in world.events.told] == ["ResizeStarted", "ResizeError"]
    # A new wish starts afresh.
    one.update(make_pod("one", "1500m", 3))
    assert condition(one) == ("PodResizeInProgress", "", 3)


async def test_the_next_agent_knows_what_was_granted(world: World) -> None:
    one = await world.admitted("one", "1")
    one.update(make_pod("one", "5", 2))
    world.restart()
    wanted = make_pod("one", "5", 2)
    wanted.status.conditions = list(one.view().conditions)
    again = world.pod(wanted)
    assert cpu(again) == "1"
    again.hold()
    assert condition(again) == ("PodResizePending", "Deferred", 2)
    other = world.pod(make_pod("other", "2500m"))
    rejection = await other.admit()
    assert rejection is not None  # what runs is counted though nobody was asked
    told = len(world.events.told)
    world.allocations.keep_only(["uid-one"])
    assert len(world.events.told) == told  # it was told before
    again.update(make_pod("one", "3", 3))
    assert cpu(again) == "3"


async def test_the_next_agent_carries_out_what_was_granted(world: World) -> None:
    one = await world.admitted("one", "1")
    one.update(make_pod("one", "2", 2))
    world.restart()
    again = world.pod(make_pod("one", "2", 2))
    again.hold()
    assert again.steps(["main"]) == [Update("main", Applied(cpu_request=1000), Applied(cpu_request=2000))]
    # A container that was about to be started is held to what it was started with.
    again.starting(again.pod, (again.pod.spec.containers or [])[0])
    world.restart()
    assert world.pod(make_pod("one", "2", 2)).steps(["main"]) == []


async def test_nothing_is_kept_of_a_pod_that_asks_for_nothing(world: World) -> None:
    await world.admitted("one", None)
    assert not list(world.directory.iterdir())
    await world.admitted("two", "1")
    assert [path.name for path in world.directory.iterdir()] == ["uid-two"]


async def test_a_torn_file_is_no_obstacle(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.admitted("one", "1")
    (world.directory / "uid-one").write_bytes(b'{"resources":')
    world.restart()
    assert cpu(world.pod(make_pod("one", "2", 2))) == "2"
    assert "uid-one" in caplog.text


async def test_a_full_disk_is_no_obstacle(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_bytes(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    one = await world.admitted("one", "1")
    assert cpu(one) == "1"
    assert "what pod uid-one was given is known to this agent only" in caplog.text


async def test_nothing_is_granted_before_all_pods_are_known(world: World) -> None:
    await world.admitted("one", "1")
    world.restart()
    one = world.pod(make_pod("one", "2", 2))
    one.hold()
    assert cpu(one) == "1"
    world.allocations.keep_only(["uid-one"])
    assert cpu(one) == "2"


def test_a_pod_that_is_not_admitted_yet_may_change(world: World) -> None:
    one = world.pod(make_pod("one", "1"))
    one.update(make_pod("one", "2", 2))
    assert cpu(one) == "2"
    assert one.view().conditions == ()


async def test_a_resize_that_an_earlier_agent_finished_is_told_of(world: World) -> None:
    pod = make_pod("one", "1")
    pod.status.conditions = [PodCondition(type="PodResizeInProgress", status="True", observed_generation=1)]
    one = world.pod(pod)
    one.hold()
    assert one.steps(["main"]) == []
    one.completed()
    assert world.events.told == [("one", "ResizeCompleted")]


async def test_restarts_are_steps_too(world: World) -> None:
    one = await world.admitted("one", "1")
    wanted = make_pod("one", "2", 2)
    (container,) = wanted.spec.containers or ()
    container.resize_policy = [ContainerResizePolicy(resource_name="cpu", restart_policy="RestartContainer")]
    one.update(wanted)
    assert one.steps(["main"]) == [Restart("main")]


async def test_what_containers_share_follows_when_it_is_carried_out(world: World) -> None:
    one = await world.admitted("one", "1")
    assert one.sharing() is None
    assert one.starting(one.pod, (one.pod.spec.containers or [])[0]) == Applied(cpu_request=1000)
    one.update(make_pod("one", "2", 2))
    change = Applied(cpu_request=1000), Applied(cpu_request=2000)
    assert one.sharing() == change
    world.restart()
    again = world.pod(make_pod("one", "2", 2))
    again.hold()
    assert again.sharing() == change, "the next agent goes on with it"
    again.shares(change[1])
    assert again.sharing() is None
    world.restart()
    assert world.pod(make_pod("one", "2", 2)).sharing() is None


async def test_a_start_meanwhile_has_room_for_what_was_and_what_will_be(world: World) -> None:
    one = await world.admitted("one", "2")
    for cores in ("3", "1"):
        one.update(make_pod("one", cores, 2))
        sharing = one.starting(one.pod, (one.pod.spec.containers or [])[0])
        assert sharing == Applied(cpu_request=3000 if cores == "3" else 2000)
        one.started(Applied(cpu_request=2000))


async def test_a_start_may_bring_back_what_was_shared_before(world: World) -> None:
    one = await world.admitted("one", "1")
    sharing = one.starting(one.pod, (one.pod.spec.containers or [])[0])
    one.update(make_pod("one", "2", 2))
    one.shares(Applied(cpu_request=2000))
    assert one.sharing() is None
    world.woken.clear()
    one.started(sharing)
    assert one.sharing() == (Applied(cpu_request=1000), Applied(cpu_request=2000))
    assert world.woken == ["one"]
    one.shares(Applied(cpu_request=2000))
    one.started(one.starting(one.pod, (one.pod.spec.containers or [])[0]))
    assert one.sharing() is None


CRITICAL = 2_000_000_000


async def test_room_is_made_for_critical_pods(world: World) -> None:
    await world.admitted("small", "500m")
    await world.admitted("big", "2", termination_grace_period_seconds=7)
    one = world.pod(make_pod("critical", "2", priority=CRITICAL))
    assert await one.admit() is None
    ((uid, eviction),) = world.evicted
    assert (uid, eviction.grace_seconds) == ("uid-big", 7)
    assert (eviction.reason, eviction.message) == ("Preempting", "Preempted in order to admit critical pod")
    assert eviction.disruption == "Pod was preempted by Kubelet to accommodate a critical pod."


async def test_but_none_by_ending_critical_pods(world: World) -> None:
    await world.admitted("critical", "2", priority=CRITICAL)
    rejection = await world.pod(make_pod("other", "2", priority=CRITICAL)).admit()
    assert rejection == Rejection(
        "UnexpectedAdmissionError",
        "Unexpected error while attempting to recover from admission failure: preemption: "
        "error finding a set of pods to preempt: no set of running pods found to reclaim resources: "
        "[(res: cpu, q: 1000), ]",
    )
    # A more important one may.
    assert await world.pod(make_pod("node-critical", "2", priority=CRITICAL + 1000)).admit() is None


async def test_where_room_would_not_help_none_is_made(world: World) -> None:
    await world.admitted("big", "2")
    rejection = await world.pod(
        make_pod("critical", "2", priority=CRITICAL, node_selector={"zone": "nowhere"})
    ).admit()
    assert rejection is not None
    assert (rejection.reason, world.evicted) == ("NodeAffinity", [])


async def test_room_that_others_take_is_made_again_and_not_for_ever(world: World) -> None:
    world.immortal.add("uid-big")
    await world.admitted("big", "2")
    rejection = await world.pod(make_pod("critical", "2", priority=CRITICAL)).admit()
    assert rejection is not None
    assert (rejection.reason, len(world.evicted)) == ("OutOfcpu", 3)


async def test_a_pod_that_is_to_end_takes_nothing_and_no_room_is_made_for_it(world: World) -> None:
    leaving = make_pod("leaving", "2")
    leaving.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    allocation = world.pod(leaving)
    assert await allocation.admit() is None
    assert not allocation.is_counted
    await world.admitted("big", "2")
    critical = make_pod("critical", "2", priority=CRITICAL)
    critical.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    rejection = await world.pod(critical).admit()
    assert rejection is not None
    assert (rejection.reason, world.evicted) == ("OutOfcpu", [])
