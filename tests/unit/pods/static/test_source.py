"""Static pods run one after the other under each name, whatever happens to their files."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.objects import ObjectMeta, Pod, PodCondition, PodSpec, PodStatus
from vkubelet.pods.fit import MIRROR_ANNOTATION as MIRROR
from vkubelet.pods.fit import is_static
from vkubelet.pods.manifests.text import documents
from vkubelet.pods.static.identity import static_pod
from vkubelet.pods.static.source import StaticPods

NODE = "node-1"


def manifest(name: str = "web", version: str = "1", uid: str = "", grace: int = 7):
    more = f", uid: {uid}" if uid else ""
    text = f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}{more}}}
spec:
  terminationGracePeriodSeconds: {grace}
  containers: [{{name: main, image: 'a/b:v{version}'}}]
"""
    return static_pod(documents(text.encode(), "")[0], f"/pods/{name}.yaml", NODE, 0.0)


class Runner:
    """Has pods, as the manager has them."""

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.deleted: list[str] = []

    def on_change(self, pod: Pod) -> None:
        self.pods[pod.metadata.uid] = pod

    def on_delete(self, pod: Pod) -> None:
        self.deleted.append(pod.metadata.uid)


class Sink:
    """Statuses of pods that are not static, and the mirrors of those that are."""

    def __init__(self) -> None:
        self.reported: list[tuple[str, PodStatus]] = []
        self.finished: list[str] = []
        self.forgotten: list[str] = []
        self.news: list[str] = []
        self.running: list[str] = []
        self.leaving: list[str] = []

    def report(self, pod: Pod, status: PodStatus) -> None:
        self.reported.append((pod.metadata.uid, status))

    async def finish(self, pod: Pod, status: PodStatus | None) -> None:
        self.finished.append(pod.metadata.uid)

    def forget(self, uid: str) -> None:
        self.forgotten.append(uid)

    def show(self, manifests, leaving) -> None:
        self.running = [made.pod.metadata.uid for made in manifests]
        self.leaving = [made.pod.metadata.uid for made in leaving]

    def on_change(self, mirror: Pod) -> None:
        self.news.append(f"changed {mirror.metadata.uid}")

    def on_delete(self, mirror: Pod) -> None:
        self.news.append(f"deleted {mirror.metadata.uid}")


class House:
    """Static pods between a runner and those who are told."""

    def __init__(self) -> None:
        self.runner, self.others, self.mirrors = Runner(), Sink(), Sink()
        self.static = StaticPods(self.others, self.mirrors, clock=lambda: 100.0)
        self.static.run_with(self.runner)

    def end(self, uid: str) -> None:
        """The runner has no more of a pod that it was told to end."""
        pod = self.runner.pods.pop(uid)
        assert pod.metadata.deletion_timestamp is not None
        self.static.ended(pod)


def test_a_file_is_a_pod_and_no_file_ends_it_with_its_grace():
    house, web = House(), manifest()
    uid = web.pod.metadata.uid
    house.static.update([web])
    assert house.runner.pods == {uid: web.pod}
    assert house.mirrors.running == [uid]
    house.static.update([web])
    assert house.runner.pods == {uid: web.pod}
    house.static.update([])
    ending = house.runner.pods[uid]
    assert ending.metadata.deletion_timestamp == "1970-01-01T00:01:47Z"
    assert ending.metadata.deletion_grace_period_seconds == 7
    assert (house.mirrors.running, house.mirrors.leaving) == ([], [uid])
    house.end(uid)
    assert (house.mirrors.running, house.mirrors.leaving) == ([], [])
    assert house.runner.pods == {}


def test_a_changed_file_ends_the_old_pod_before_the_new_one_begins():
    house, old, new = House(), manifest(version="1"), manifest(version="2")
    house.static.update([old])
    house.static.update([new])
    assert set(house.runner.pods) == {old.pod.metadata.uid}
    house.end(old.pod.metadata.uid)
    assert house.runner.pods == {new.pod.metadata.uid: new.pod}


def test_a_changed_file_with_a_uid_of_its_own_is_replaced_too():
    house, old, new = House(), manifest(version="1", uid="mine"), manifest(version="2", uid="mine")
    house.static.update([old])
    house.static.update([new])
    assert house.runner.pods["mine"].metadata.deletion_timestamp is not None
    house.end("mine")
    assert house.runner.pods == {"mine": new.pod}


def test_a_file_that_comes_back_while_its_pod_ends_runs_anew():
    house, web = House(), manifest()
    house.static.update([web])
    house.static.update([])
    house.static.update([web])
    assert house.runner.pods[web.pod.metadata.uid].metadata.deletion_timestamp is not None
    house.end(web.pod.metadata.uid)
    assert house.runner.pods == {web.pod.metadata.uid: web.pod}


def test_a_status_is_the_objects_and_the_mirrors():
    house, web = House(), manifest()
    house.static.update([web])
    ready = PodStatus(phase="Running", conditions=[PodCondition(type="Ready", status="True")])
    house.static.report(web.pod, ready)
    shown = house.runner.pods[web.pod.metadata.uid].status
    assert shown.phase == "Running"
    assert [(c.type, c.status) for c in shown.conditions] == [("Ready", "True"), ("PodScheduled", "True")]
    assert house.mirrors.reported == [(web.pod.metadata.uid, shown)]
    assert house.others.reported == []
    house.static.report(house.runner.pods[web.pod.metadata.uid], ready)
    assert house.mirrors.reported[1] == house.mirrors.reported[0]


async def test_the_end_of_a_static_pod_waits_for_nobody():
    house, web = House(), manifest()
    house.static.update([web])
    await house.static.finish(web.pod, PodStatus(phase="Succeeded"))
    assert house.mirrors.reported[0][1].phase == "Succeeded"
    await house.static.finish(web.pod, None)
    assert len(house.mirrors.reported) == 1
    assert house.others.finished == []


async def test_other_pods_pass_through():
    house = House()
    other = Pod(metadata=ObjectMeta(name="web-node-1", namespace="default", uid="u"), spec=PodSpec())
    house.static.update([manifest()])
    house.static.on_change(other)
    assert house.runner.pods["u"] is other
    house.static.report(other, PodStatus(phase="Running"))
    await house.static.finish(other, None)
    house.static.forget("u")
    house.static.on_delete(other)
    house.static.ended(other)
    assert house.others.reported == [("u", PodStatus(phase="Running"))]
    assert (house.others.finished, house.others.forgotten) == (["u"], ["u"])
    assert house.runner.deleted == ["u"]
    assert len(house.mirrors.running) == 1


def test_mirrors_are_no_pods_to_run():
    house = House()
    mirror = Pod(
        metadata=ObjectMeta(name="m", namespace="d", uid="u", annotations={MIRROR: "h"}), spec=PodSpec()
    )
    house.static.on_change(mirror)
    house.static.on_delete(mirror)
    assert house.runner.pods == {}
    assert house.runner.deleted == []
    assert house.mirrors.news == ["changed u", "deleted u"]


def test_nobody_but_this_node_makes_a_pod_static():
    house, pod = House(), manifest().pod
    house.static.on_change(pod)
    assert not is_static(house.runner.pods[pod.metadata.uid])


MANIFESTS = [manifest(name, version, uid) for name in "ab" for version in "12" for uid in ("", f"{name}u")]
STEP = st.one_of(
    st.tuples(st.just("update"), st.lists(st.sampled_from(MANIFESTS), unique_by=lambda made: made.pod.key)),
    st.tuples(st.just("end"), st.integers(0, 3)),
    st.tuples(st.just("report"), st.integers(0, 3)),
)


@given(st.lists(STEP, max_size=30))
def test_at_no_time_two_pods_of_one_name_and_in_the_end_those_of_the_files(steps):
    house = House()
    wanted = []

    def leaving() -> list[str]:
        return sorted(u for u, pod in house.runner.pods.items() if pod.metadata.deletion_timestamp)

    for kind, value in steps:
        if kind == "update":
            wanted = value
            house.static.update(value)
        elif kind == "end" and leaving():
            house.end(leaving()[value % len(leaving())])
        elif kind == "report" and house.runner.pods:
            uid = sorted(house.runner.pods)[value % len(house.runner.pods)]
            house.static.report(house.runner.pods[uid], PodStatus(phase="Running", reason=str(value)))
        keys = [pod.key for pod in house.runner.pods.values()]
        assert len(keys) == len(set(keys))
        assert sorted(house.mirrors.running + house.mirrors.leaving) == sorted(house.runner.pods)
    while leaving():
        house.end(leaving()[0])
    plain = {uid: msgspec.structs.replace(pod, status=PodStatus()) for uid, pod in house.runner.pods.items()}
    assert plain == {made.pod.metadata.uid: made.pod for made in wanted}
