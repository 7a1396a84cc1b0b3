"""What the containers of a pod share, and that it is never too little while it changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Group
from vkubelet.api.containers import Container, ResourceRequirements
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.pods.resources import Applied
from vkubelet.pods.sharing import group, lowers_memory, shared, widest

MIB = 1 << 20


def make_pod(
    *containers: ResourceRequirements,
    whole: ResourceRequirements | None = None,
    overhead: dict[str, str] | None = None,
) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="1-2"),
        spec=PodSpec(
            containers=[Container(name=f"c{number}", resources=one) for number, one in enumerate(containers)],
            resources=whole,
            overhead=dict(overhead) if overhead else None,
        ),
    )


def asks(
    requests: dict[str, str] | None = None, limits: dict[str, str] | None = None
) -> ResourceRequirements:
    return ResourceRequirements(
        requests=dict(requests) if requests else None, limits=dict(limits) if limits else None
    )


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (make_pod(asks()), Applied()),
        (make_pod(asks({"cpu": "100m"}), asks({"cpu": "250m"})), Applied(cpu_request=350)),
        (
            make_pod(asks(limits={"cpu": "1", "memory": "1Mi"}), asks(limits={"cpu": "500m"})),
            Applied(cpu_limit=1500),
        ),
        (
            make_pod(asks(limits={"memory": "1Mi"}), asks(limits={"memory": "2Mi", "cpu": "1"})),
            Applied(memory_limit=3 * MIB),
        ),
        (
            make_pod(asks({"cpu": "100m"}), whole=asks({"cpu": "1"}, {"cpu": "2", "memory": "64Mi"})),
            Applied(memory_limit=64 * MIB, cpu_limit=2000, cpu_request=1000),
        ),
        (
            make_pod(
                asks({"cpu": "100m"}), whole=asks(limits={"memory": "64Mi"}), overhead={"memory": "1Mi"}
            ),
            Applied(memory_limit=65 * MIB, cpu_request=100),
        ),
        (
            make_pod(asks(limits={"memory": "5Mi"}), whole=asks({"memory": "9Mi"})),
            Applied(memory_limit=5 * MIB),
        ),
    ],
)
def test_what_containers_share(pod: Pod, expected: Applied) -> None:
    assert shared(pod) == expected


def test_a_pod_that_asks_for_nothing_has_no_group() -> None:
    assert group(make_pod(asks()), Applied()) is None
    pod = make_pod(asks({"cpu": "100m"}), asks())
    assert group(pod, shared(pod)) == Group("pod1-2", cpu_request=100)
    bounds = Applied(memory_limit=5, cpu_limit=6, cpu_request=7)
    assert group(pod, bounds) == Group("pod1-2", memory_limit=5, cpu_limit=6, cpu_request=7, runtimes=2)


def test_a_limit_of_processes_is_every_pods() -> None:
    assert group(make_pod(asks()), Applied(), 50) == Group("pod1-2", cpu_request=0, process_limit=50)
    pod = make_pod(asks({"cpu": "100m"}), asks())
    assert group(pod, shared(pod), 50) == Group("pod1-2", cpu_request=100, process_limit=50)


def test_a_limit_of_the_whole_pod_has_the_runtime_in_it() -> None:
    pod = make_pod(asks(), asks(), whole=asks(limits={"memory": "64Mi"}))
    assert group(pod, shared(pod)) == Group("pod1-2", memory_limit=64 * MIB, cpu_request=0)


amounts = st.integers(0, 5)
bounds = st.builds(Applied, memory_limit=amounts, cpu_limit=amounts, cpu_request=amounts)


@given(bounds, bounds)
def test_the_widest_is_enough_for_both_and_no_more(one: Applied, other: Applied) -> None:
    found = widest(one, other)
    assert widest(other, one) == found
    assert widest(one, one) == one
    for name in ("memory_limit", "cpu_limit"):
        limits = [getattr(one, name), getattr(other, name)]
        assert getattr(found, name) == (max(limits) if all(limits) else 0)
    assert found.cpu_request == max(one.cpu_request, other.cpu_request)


@pytest.mark.parametrize(
    ("before", "after", "expected"), [(0, 0, False), (0, 5, True), (5, 0, False), (5, 4, True), (4, 5, False)]
)
def test_less_memory(before: int, after: int, expected: bool) -> None:
    assert lowers_memory(Applied(memory_limit=before), Applied(memory_limit=after)) is expected
