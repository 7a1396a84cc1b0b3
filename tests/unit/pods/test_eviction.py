"""Thresholds, what becomes of them in time, who is evicted first, and what they are told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.containers import Container, ResourceRequirements
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.config import Config, ConfigError
from vkubelet.pods.eviction.ranking import (
    ContainerUsage,
    PodUsage,
    has_storage_limit,
    limit_message,
    low_message,
    ranked,
)
from vkubelet.pods.eviction.thresholds import (
    Amount,
    Observation,
    Pressure,
    Threshold,
    configured,
    look,
    met,
    most_urgent,
    reserved,
)

MIB = 1 << 20
HARD = Threshold("memory.available", Amount(Decimal(100)))
SOFT = Threshold("nodefs.available", Amount(share=Decimal("0.1")), grace=30, reclaim=Amount(Decimal(50)))


def config(**options: Any) -> Config:
    return Config(node_name="n", root_dir="/r", run_dir="/u", pod_logs_dir="/l", **options)


def test_the_defaults_are_the_kubelets_and_one_more() -> None:
    found = {threshold.signal: threshold.below for threshold in configured(config())}
    assert found == {
        "memory.available": Amount(Decimal(100 * MIB)),
        "nodefs.available": Amount(share=Decimal("0.1")),
        "nodefs.inodesFree": Amount(share=Decimal("0.05")),
        "containerfs.available": Amount(share=Decimal("0.1")),
        "containerfs.inodesFree": Amount(share=Decimal("0.05")),
        "imagefs.available": Amount(share=Decimal("0.15")),
        "imagefs.inodesFree": Amount(share=Decimal("0.05")),
        "pid.available": Amount(share=Decimal("0.05")),
    }


def test_soft_ones_have_a_grace_and_a_reclaim() -> None:
    found = configured(
        config(
            eviction_hard={"memory.available": "0%"},
            eviction_soft={"memory.available": "1Gi", "nodefs.available": "20%"},
            eviction_soft_grace_period={"memory.available": "1m30s", "nodefs.available": "2h"},
            eviction_minimum_reclaim={"memory.available": "500Mi"},
        )
    )
    assert {(one.signal, one.grace) for one in found} == {
        ("memory.available", 90.0),
        ("nodefs.available", 7200.0),
        ("containerfs.available", 7200.0),
    }
    assert {one.reclaim for one in found if one.signal == "memory.available"} == {Amount(Decimal(500 * MIB))}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eviction_hard": {"disk.free": "1"}}, "evictionHard: unsupported eviction signal disk.free"),
        (
            {"eviction_hard": {"memory.available": "lots"}},
            "evictionHard: memory.available: 'lots' is neither",
        ),
        ({"eviction_hard": {"memory.available": "101%"}}, "'101%' is neither"),
        ({"eviction_hard": {"memory.available": "NaN%"}}, "'NaN%' is neither"),
        ({"eviction_hard": {"memory.available": "-1"}}, "'-1' is neither"),
        ({"eviction_hard": {"memory.available": "0"}}, "'0' must be positive"),
        (
            {"eviction_soft": {"memory.available": "1"}},
            "evictionSoft: memory.available: set its grace period",
        ),
        ({"eviction_soft_grace_period": {"memory.available": "soon"}}, "'soon' is no duration"),
        ({"eviction_soft_grace_period": {"x": "1s"}}, "evictionSoftGracePeriod: unsupported"),
        ({"eviction_minimum_reclaim": {"memory.available": "x"}}, "evictionMinimumReclaim: memory.available"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(config(**options))
    assert message in str(caught.value)


def test_what_hard_thresholds_keep_from_pods() -> None:
    thresholds = configured(config(eviction_hard={"memory.available": "10%", "nodefs.available": "5Gi"}))
    assert reserved(thresholds, "memory.available", 1000) == 100
    assert reserved(thresholds, "nodefs.available", 1000) == 5 << 30
    assert reserved(thresholds, "pid.available", 1000) == 0
    assert reserved((SOFT,), "nodefs.available", 1000) == 0


def memory(available: int) -> dict[str, Observation]:
    return {"memory.available": Observation(available, 1000), "nodefs.available": Observation(500, 1000)}


def disk(available: int) -> dict[str, Observation]:
    return {"memory.available": Observation(500, 1000), "nodefs.available": Observation(available, 1000)}


def test_a_hard_threshold_is_due_at_once_and_held_in_the_conditions() -> None:
    seen = look(Pressure(), (HARD, SOFT), memory(99), 10.0)
    assert seen.due == (HARD,)
    assert seen.conditions(10.0, 300.0) == {"MemoryPressure"}
    after = look(seen, (HARD, SOFT), memory(100), 20.0)
    assert after.due == ()
    assert after.conditions(309.9, 300.0) == {"MemoryPressure"}
    assert after.conditions(310.0, 300.0) == set()


def test_a_soft_threshold_waits_for_its_grace() -> None:
    first = look(Pressure(), (HARD, SOFT), disk(99), 0.0)
    assert first.due == ()
    assert first.conditions(0.0, 300.0) == {"DiskPressure"}
    assert look(first, (HARD, SOFT), disk(99), 29.0).due == ()
    assert look(first, (HARD, SOFT), disk(99), 30.0).due == (SOFT,)
    # Once it was not crossed, it begins anew.
    between = look(first, (HARD, SOFT), disk(100), 20.0)
    assert look(between, (HARD, SOFT), disk(99), 30.0).due == ()


def test_one_that_was_due_wants_its_minimum_reclaimed() -> None:
    due = look(look(Pressure(), (SOFT,), disk(99), 0.0), (SOFT,), disk(99), 30.0)
    assert look(due, (SOFT,), disk(149), 40.0).due == (SOFT,)
    assert look(due, (SOFT,), disk(150), 40.0).due == ()
    never = look(Pressure(), (SOFT,), disk(149), 30.0)
    assert never.since == {}


def test_what_is_not_observed_is_not_short() -> None:
    assert met((HARD, Threshold("nodefs.inodesFree", Amount(Decimal(1)))), memory(0)) == [HARD]


def test_memory_is_most_urgent() -> None:
    soft_memory = Threshold("memory.available", Amount(Decimal(1)), grace=1)
    storage = Threshold("nodefs.available", Amount(Decimal(1)))
    assert most_urgent((storage, soft_memory)) == soft_memory
    assert most_urgent((soft_memory, HARD)) == HARD
    assert most_urgent(()) is None


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 300)), max_size=12),
    st.integers(0, 60),
)
def test_pressure_holds_exactly_as_long_as_it_is_told_to(looks: list[tuple[int, int]], hold: int) -> None:
    pressure, now, last = Pressure(), 0, None
    for pause, available in looks:
        now += pause
        pressure = look(pressure, (HARD,), memory(available), float(now))
        last = now if available < 100 else last
        assert bool(pressure.due) is (available < 100)
        assert bool(pressure.conditions(now, hold)) is (last is not None and now - last < hold)


def pod(name: str, memory: str = "", storage: str = "", priority: int = 0, **more: Any) -> Pod:
    requests = {"memory": memory, "ephemeral-storage": storage}
    resources = ResourceRequirements(requests={key: text for key, text in requests.items() if text})
    return Pod(
        metadata=ObjectMeta(name=name, namespace="ns", uid=name),
        spec=PodSpec(containers=[Container(name="main", resources=resources)], priority=priority, **more),
    )


def uses(memory: int = 0, root: int = 0, logs: int = 0, **more: int) -> PodUsage:
    return PodUsage((ContainerUsage("main", memory, root, logs),), **more)


@pytest.mark.parametrize(
    ("resource", "candidates"),
    [
        (
            "memory",
            [
                (pod("exceeds-more", "10Mi"), uses(memory=90 * MIB)),
                (pod("exceeds", "10Mi"), uses(memory=11 * MIB)),
                (pod("important", "10Mi", priority=5), uses(memory=900 * MIB)),
                (pod("within", "100Mi"), uses(memory=99 * MIB)),
                (pod("well-within", "100Mi"), uses(memory=1 * MIB)),
                (pod("within-important", "100Mi", priority=5), uses(memory=99 * MIB)),
            ],
        ),
        (
            "ephemeral-storage",
            [
                (pod("volumes", storage="1Mi"), uses(root=MIB, volumes=9 * MIB)),
                (pod("logs", storage="1Mi"), uses(root=MIB, logs=2 * MIB)),
                (pod("within", storage="10Mi"), uses(root=MIB)),
            ],
        ),
        ("inodes", [(pod("many"), uses(inodes=100)), (pod("few", storage="1Gi"), uses(inodes=10))]),
        (
            "pids",
            [
                (pod("many"), uses(processes=100)),
                (pod("few"), uses(processes=1)),
                (pod("important", priority=1), uses(processes=900)),
            ],
        ),
    ],
)
def test_the_order(resource: str, candidates: list[tuple[Pod, PodUsage]]) -> None:
    assert ranked(resource, reversed(candidates)) == candidates


def test_what_an_evicted_pod_is_told() -> None:
    observations = {"memory.available": Observation(50 * MIB, 1000 * MIB)}
    threshold = Threshold("memory.available", Amount(Decimal(100 * MIB)))
    text = low_message("memory", (pod("p", "10Mi"), uses(memory=90 * MIB)), (threshold,), observations)
    assert text == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container main was using 90Mi, request is 10Mi, has larger consumption of memory. "
    )
    text = low_message("memory", (pod("p"), uses(memory=90 * MIB + 1)), (), observations)
    assert text.endswith(
        "Container main was using 94371841, request is 0, has larger consumption of memory. "
    )
    assert low_message("memory", (pod("p", "1Gi"), uses(memory=1)), (), {}) == (
        "The node was low on resource: memory. "
    )
    assert (
        low_message("pids", (pod("p"), uses(processes=9)), (), {}) == "The node was low on resource: pids. "
    )


def test_the_whole_pods_request_is_told_too() -> None:
    whole = ResourceRequirements(requests={"memory": "20Mi"})
    text = low_message("memory", (pod("p", resources=whole), uses(memory=90 * MIB)), (), {})
    assert text == (
        "The node was low on resource: memory. "
        "Pod p was using 90Mi, request is 20Mi, has larger consumption of memory. "
        "Container main was using 90Mi, request is 0, has larger consumption of memory. "
    )


def limited(*limits: str | None) -> Pod:
    containers = [
        Container(
            name=f"c{number}",
            resources=ResourceRequirements(limits={"ephemeral-storage": text} if text else None),
        )
        for number, text in enumerate(limits)
    ]
    return Pod(metadata=ObjectMeta(), spec=PodSpec(containers=containers))


def used(*storage: int, volumes: int = 0) -> PodUsage:
    return PodUsage(tuple(ContainerUsage(f"c{i}", 0, one, 0) for i, one in enumerate(storage)), volumes)


@pytest.mark.parametrize(
    ("limits", "usage", "message"),
    [
        (("10Mi",), used(10 * MIB), None),
        (
            ("10Mi",),
            used(9 * MIB, volumes=2 * MIB),
            "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ",
        ),
        (
            ("10Mi", "5Mi"),
            used(9 * MIB, 6 * MIB),
            'Container c1 exceeded its local ephemeral storage limit "5Mi". ',
        ),
        ((None,), used(1 << 40), None),
    ],
)
def test_limits_of_storage(limits: tuple[str | None, ...], usage: PodUsage, message: str | None) -> None:
    assert limit_message(limited(*limits), usage) == message
    assert has_storage_limit(limited(*limits)) is any(limits)


requests = st.sampled_from(["", "10Mi", "100Mi"])
pods = st.builds(lambda memory, priority: pod("p", memory, priority=priority), requests, st.integers(-1, 2))
usages = st.builds(uses, memory=st.integers(0, 200 * MIB))


@given(st.lists(st.tuples(pods, usages), max_size=8))
def test_nobody_within_its_request_goes_before_one_beyond(
    candidates: list[tuple[Pod, PodUsage]],
) -> None:
    def beyond(candidate: tuple[Pod, PodUsage]) -> bool:
        one, usage = candidate
        asked = (one.spec.containers or [])[0].resources.requests or {}
        return (
            usage.of("memory") > {"": 0, "10Mi": 10 * MIB, "100Mi": 100 * MIB}[str(asked.get("memory", ""))]
        )

    order = [beyond(one) for one in ranked("memory", candidates)]
    assert order == sorted(order, reverse=True)
    assert len(order) == len(candidates)
