"""When a play is over, and with which exit code."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vkubelet.api.objects import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    ObjectReference,
    Pod,
    PodStatus,
)
from vkubelet.play.player import CANNOT, Outcome, Player, hopeless, outcome
from vkubelet.play.script import script
from vkubelet.pods.manifests.text import documents
from vkubelet.pods.static.source import NoMirrors, StaticPods
from vkubelet.standalone import Nobody

TEXT = """
apiVersion: v1
kind: Pod
metadata: {name: one}
spec: {containers: [{name: main, image: a}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two}
spec: {containers: [{name: main, image: a}]}
"""


def waiting(reason: str, **more) -> ContainerStatus:
    state = ContainerState(waiting=ContainerStateWaiting(reason=reason, message="why"))
    return ContainerStatus(name="main", state=state, **more)


def ended(code: int, name: str = "main") -> ContainerStatus:
    return ContainerStatus(
        name=name, state=ContainerState(terminated=ContainerStateTerminated(exit_code=code))
    )


RUNNING = ContainerStatus(name="main", state=ContainerState(running=ContainerStateRunning()))
BEFORE = ContainerState(terminated=ContainerStateTerminated(exit_code=1))


def status(*containers: ContainerStatus, phase: str = "Pending", init=None, **more) -> PodStatus:
    found = list(containers)
    return PodStatus(phase=phase, container_statuses=found, init_container_statuses=init, **more)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (status(RUNNING, phase="Running"), None),
        (status(waiting("ContainerCreating")), None),
        (status(waiting("PodInitializing")), None),
        (status(waiting("ErrImagePull")), "pod one, container main: ErrImagePull: why"),
        (
            status(waiting("CreateContainerConfigError")),
            "pod one, container main: CreateContainerConfigError: why",
        ),
        (status(waiting("ErrImagePull", last_state=BEFORE)), None),
        (status(waiting("CrashLoopBackOff", restart_count=1)), None),
        (
            status(RUNNING, init=[waiting("RunContainerError")]),
            "pod one, container main: RunContainerError: why",
        ),
        (status(phase="Failed", reason="OutOfcpu", message="no"), "pod one: OutOfcpu: no"),
        (status(ended(3), phase="Failed"), None),
    ],
)
def test_what_will_never_run(seen, expected):
    pod = script(documents(TEXT.encode(), ""), "", Path(), "n", lambda: "u").pods[0].pod
    assert hopeless(pod, seen) == expected


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([status(ended(0))], 0),
        ([status(ended(0), ended(4, "b")), status(ended(9))], 4),
        ([status(ended(0)), status(ended(9))], 9),
        ([status(waiting("PodInitializing"), init=[ended(2)])], 2),
        ([status(waiting("CrashLoopBackOff", last_state=BEFORE))], 1),
        ([], 0),
    ],
)
def test_the_first_code_that_is_not_0_counts(statuses, code):
    assert outcome(statuses) == Outcome(code)


class Stage:
    """A play of two pods, whose runner does what the test says."""

    def __init__(self) -> None:
        uids = iter(("u1", "u2"))
        found = script(documents(TEXT.encode(), ""), "", Path(), "n", lambda: next(uids))
        self.pods: dict[str, Pod] = {}
        self.player = Player(found.pods)
        self.static = StaticPods(Nobody(), self.player)
        self.static.run_with(self)
        self.running = asyncio.ensure_future(self.player.run(self.static))

    def on_change(self, pod: Pod) -> None:
        self.pods[pod.metadata.uid] = pod

    def on_delete(self, pod: Pod) -> None:
        raise AssertionError("a pod of a file is not deleted by others")

    async def report(self, uid: str, seen: PodStatus) -> None:
        await asyncio.sleep(0)
        self.static.report(self.pods[uid], seen)
        for _ in range(3):
            await asyncio.sleep(0)

    async def end(self, uid: str) -> None:
        assert self.pods[uid].metadata.deletion_timestamp is not None
        self.static.ended(self.pods.pop(uid))
        await asyncio.sleep(0)


async def test_a_play_is_over_with_the_last_pod_and_when_nothing_is_left_of_any():
    stage = Stage()
    await stage.report("u1", status(ended(3), phase="Failed"))
    assert stage.pods["u1"].metadata.deletion_timestamp is None
    await stage.report("u2", status(ended(0), phase="Succeeded"))
    await stage.end("u1")
    assert not stage.running.done()
    await stage.end("u2")
    assert await stage.running == Outcome(3)


async def test_one_pod_that_cannot_run_ends_all():
    stage = Stage()
    await stage.report("u2", status(waiting("ErrImagePull")))
    await stage.report("u1", status(waiting("CreateContainerError")))
    await stage.end("u1")
    await stage.end("u2")
    assert await stage.running == Outcome(CANNOT, "pod two, container main: ErrImagePull: why")


async def test_a_volume_that_cannot_be_mounted_ends_all_and_other_warnings_nothing():
    stage = Stage()
    await asyncio.sleep(0)
    stage.player.failed(ObjectReference(kind="Pod", name="one"), "Unhealthy", "no")
    await asyncio.sleep(0)
    assert stage.pods["u1"].metadata.deletion_timestamp is None
    stage.player.failed(ObjectReference(kind="Pod", name="one"), "FailedMount", "no secret")
    await stage.report("u1", status(waiting("ContainerCreating")))
    await stage.end("u1")
    await stage.end("u2")
    assert await stage.running == Outcome(CANNOT, "pod one: FailedMount: no secret")


async def test_who_stops_it_gets_the_containers_codes():
    stage = Stage()
    await stage.report("u1", status(RUNNING, phase="Running"))
    assert not stage.player.stopped
    stage.player.stop()
    assert stage.player.stopped
    await stage.report("u2", status(waiting("ErrImagePull")))
    await stage.static.finish(stage.pods["u1"], status(ended(137), phase="Failed"))
    await stage.end("u1")
    await stage.end("u2")
    assert await stage.running == Outcome(137)
    assert isinstance(stage.player, NoMirrors)
