"""Who makes room for a critical pod."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.containers import Container, ResourceRequirements
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.pods.fit import demand
from vkubelet.pods.preemption import NoVictimsError, preempted, victims
from vkubelet.pods.qos import BEST_EFFORT, BURSTABLE, GUARANTEED, qos_class

CRITICAL = 2_000_000_000


def make_pod(name: str, kind: str = "b", cpu: int = 0, memory: int = 0, priority: int | None = 0) -> Pod:
    """`cpu` in thousandths, `memory` in bytes."""
    amounts = {"cpu": f"{cpu}m", "memory": str(memory)}
    requests = None if kind == "n" else dict(amounts)
    limits = dict(amounts) if kind == "g" else None
    container = Container(name="main", resources=ResourceRequirements(requests=requests, limits=limits))
    return Pod(
        metadata=ObjectMeta(name=name, namespace="ns", uid=name),
        spec=PodSpec(containers=[container], priority=priority),
    )


ONE = make_pod("critical", priority=CRITICAL)


@pytest.mark.parametrize(
    ("pods", "missing", "expected"),
    [
        # As little as will do, and as few.
        ([make_pod("a", cpu=100), make_pod("b", cpu=300), make_pod("c", cpu=900)], {"cpu": 250}, ["b"]),
        ([make_pod("a", cpu=100), make_pod("b", cpu=200), make_pod("c", cpu=150)], {"cpu": 300}, ["b", "a"]),
        # The worse class goes as far as it helps.
        ([make_pod("g", "g", cpu=500, memory=5), make_pod("b", cpu=500)], {"cpu": 300}, ["b"]),
        ([make_pod("g", "g", cpu=500, memory=5), make_pod("b", cpu=200)], {"cpu": 600}, ["b", "g"]),
        # A class is spared that the better ones make unnecessary.
        ([make_pod("g", "g", cpu=500, memory=5), make_pod("b", cpu=200)], {"cpu": 300}, ["g"]),
        # Room for a pod is in any of them: the worst class has it.
        ([make_pod("b", cpu=500), make_pod("n", "n")], {"pods": 1}, ["n"]),
        # Of two that are as near, the one that asks for less.
        ([make_pod("a", cpu=500, memory=9), make_pod("b", cpu=400, memory=5)], {"cpu": 400}, ["b"]),
        # Each resource counts alike.
        (
            [make_pod("a", cpu=100), make_pod("b", cpu=60, memory=60), make_pod("c", memory=100)],
            {"cpu": 60, "memory": 60},
            ["b"],
        ),
        ([make_pod("a", cpu=100)], {}, []),
    ],
)  # fmt: skip
def test_who_goes(pods: list[Pod], missing: dict[str, int], expected: list[str]) -> None:
    assert [pod.metadata.name for pod in victims(ONE, pods, missing)] == expected


@pytest.mark.parametrize(
    ("pod", "critical", "goes"),
    [
        (make_pod("usual", cpu=100, priority=1_000_000_000), ONE, True),
        (make_pod("critical", cpu=100, priority=CRITICAL), ONE, False),
        (make_pod("critical", cpu=100, priority=CRITICAL), make_pod("x", priority=CRITICAL + 1000), True),
        (make_pod("more-critical", cpu=100, priority=CRITICAL + 1000), ONE, False),
        (make_pod("no-priority", cpu=100, priority=None), ONE, True),
    ],
)
def test_who_must_yield(pod: Pod, critical: Pod, goes: bool) -> None:
    if goes:
        assert victims(critical, [pod], {"cpu": 50}) == [pod]
        return
    with pytest.raises(NoVictimsError, match=r"no set of running pods found .*: \[\(res: cpu, q: 50\), \]"):
        victims(critical, [pod], {"cpu": 50})


def test_how_they_go() -> None:
    pod = make_pod("a")
    assert preempted(pod).grace_seconds == 30
    pod.spec.termination_grace_period_seconds = 0
    assert preempted(pod).grace_seconds == 0


amounts = st.integers(0, 10)
pods = st.lists(
    st.builds(make_pod, st.uuids().map(str), st.sampled_from("gbn"), amounts, amounts),
    max_size=8,
    unique_by=lambda pod: pod.metadata.uid,
)
missing = st.dictionaries(st.sampled_from(["cpu", "memory", "pods"]), st.integers(1, 30), max_size=3)


@given(pods, missing)
def test_there_is_room_afterwards_and_nobody_goes_in_vain(pods: list[Pod], missing: dict[str, int]) -> None:
    def enough(gone: list[Pod]) -> bool:
        def request(pod: Pod, name: str) -> int:
            return 1 if name == "pods" else demand(pod).amounts.get(name, 0)

        return all(sum(request(pod, name) for pod in gone) >= amount for name, amount in missing.items())

    try:
        found = victims(ONE, pods, missing)
    except NoVictimsError:
        assert not enough(pods)
        return
    assert enough(found)
    order = [BEST_EFFORT, BURSTABLE, GUARANTEED].index
    classes = [order(qos_class(pod)) for pod in found]
    assert classes == sorted(classes)
    assert len({pod.metadata.uid for pod in found}) == len(found)
    # Not all of a class goes where none of it need go.
    for name in (BEST_EFFORT, BURSTABLE):
        rest = [pod for pod in found if qos_class(pod) != name]
        if len(rest) < len(found):
            assert not enough(rest)
