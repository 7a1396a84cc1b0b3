"""In-place resize as pure functions: what differs, what is done about it, what is shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.containers import Container, ContainerResizePolicy, ResourceRequirements
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.pods.resize import (
    Applied,
    PodResources,
    Restart,
    Update,
    applied,
    lowers_memory,
    resources_of,
    same,
    shown_resources,
    steps,
    summary,
    urgency,
    usage_above,
    with_resources,
)

MIB = 1 << 20


def container(
    name: str = "main",
    limits: dict[str, str] | None = None,
    requests: dict[str, str] | None = None,
    **policies: str,
) -> Container:
    resize_policy = [
        ContainerResizePolicy(resource_name=key, restart_policy=how) for key, how in policies.items()
    ]
    amounts = ResourceRequirements(
        limits=dict(limits) if limits else None, requests=dict(requests) if requests else None
    )
    return Container(name=name, resources=amounts, resize_policy=resize_policy)


def make_pod(*containers: Container, init: tuple[Container, ...] = (), **spec: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u", generation=2),
        spec=PodSpec(containers=list(containers), init_containers=list(init), **spec),
    )


FULL = {"cpu": "100m", "memory": "100Mi"}


def test_a_pod_is_run_with_what_it_was_granted() -> None:
    pod = make_pod(container(limits=FULL), init=(container("init", requests=FULL),))
    granted = resources_of(pod)
    assert with_resources(pod, granted) is pod
    wanted = make_pod(container(limits={"cpu": "1"}), init=(container("init"),))
    shown = with_resources(wanted, granted)
    assert shown.metadata is wanted.metadata
    assert resources_of(shown) == granted
    assert resources_of(wanted) != granted


def test_spelling_is_no_difference() -> None:
    one = resources_of(make_pod(container(limits={"cpu": "1", "memory": "1Gi"})))
    other = resources_of(make_pod(container(limits={"cpu": "1000m", "memory": "1024Mi"})))
    assert same(one, other)
    assert same(PodResources(), PodResources(whole=ResourceRequirements(limits={})))
    assert not same(one, resources_of(make_pod(container(requests={"cpu": "1"}))))
    assert not same(one, PodResources(one.containers, whole=ResourceRequirements(limits={"cpu": "1"})))


@pytest.mark.parametrize(
    ("one", "whole", "expected"),
    [
        (container(), None, Applied()),
        (
            container(limits=FULL, requests={"cpu": "50m", "memory": "50Mi"}),
            None,
            Applied(100 * MIB, 50 * MIB, 100, 50),
        ),
        (container(), ResourceRequirements(limits=dict(FULL)), Applied(100 * MIB, 0, 100, 0)),
        (container(requests={"cpu": "1m"}), ResourceRequirements(requests=dict(FULL)), Applied(0, 0, 0, 1)),
        (container(limits={"cpu": "0.5u"}), None, Applied(0, 0, 1, 0)),
    ],
)
def test_what_a_container_is_held_to(
    one: Container, whole: ResourceRequirements | None, expected: Applied
) -> None:
    assert applied(make_pod(one, resources=whole), one) == expected


@pytest.mark.parametrize(
    ("policies", "after", "restarts"),
    [
        ({}, {"cpu": "200m"}, False),
        ({"cpu": "NotRequired", "memory": "RestartContainer"}, {"cpu": "200m"}, False),
        ({"cpu": "RestartContainer"}, {"cpu": "200m"}, True),
        ({"memory": "RestartContainer"}, {"memory": "1Gi"}, True),
        ({"memory": "RestartContainer", "cpu": "NotRequired"}, {"memory": "1Mi", "cpu": "1"}, True),
    ],
)
def test_the_resize_policy_decides(policies: dict[str, str], after: dict[str, str], restarts: bool) -> None:
    before = container(limits=FULL)
    pod = make_pod(container(limits=FULL | after, **policies))
    held = applied(make_pod(before), before)
    (step,) = steps(pod, {"main": held}, ["main"])
    if restarts:
        assert step == Restart("main")
    else:
        assert step == Update("main", held, applied(pod, (pod.spec.containers or [])[0]))


def test_requests_restart_as_limits_do() -> None:
    pod = make_pod(container(limits=FULL, requests={"memory": "1Mi"}, memory="RestartContainer"))
    before = Applied(memory_limit=100 * MIB, memory_request=2 * MIB, cpu_limit=100)
    assert steps(pod, {"main": before}, ["main"]) == [Restart("main")]


def test_only_running_containers_are_resized_and_decreases_come_first() -> None:
    pod = make_pod(
        container("grows", {"memory": "3Mi"}),
        container("shrinks", {"memory": "1Mi"}),
        container("stopped", {"memory": "1Mi"}),
        container("same", {"memory": "2Mi"}),
    )
    before = {name: Applied(memory_limit=2 * MIB) for name in ("grows", "shrinks", "stopped", "same")}
    found = steps(pod, before, ["grows", "shrinks", "same"])
    assert [step.container for step in found] == ["shrinks", "grows"]
    assert lowers_memory(found)
    assert not lowers_memory(found[1:])


def test_limits_are_not_lowered_below_usage() -> None:
    def update(name: str, before: int, after: int) -> Update:
        return Update(name, Applied(memory_limit=before), Applied(memory_limit=after))

    usage = {"a": 50, "b": 50}
    assert usage_above([update("a", 100, 51), update("b", 40, 45), update("c", 9, 1)], usage) is None
    text = 'attempting to set container "a" memory limit (50) below current usage (50)'
    assert usage_above([update("a", 100, 50)], usage) == f"cannot decrease memory limits: {text}"
    assert usage_above([update("a", 0, 50)], usage) == f"cannot decrease memory limits: {text}"
    both = usage_above([update("a", 100, 50), update("b", 100, 1)], usage)
    other = 'attempting to set container "b" memory limit (1) below current usage (50)'
    assert both == f"cannot decrease memory limits: [{text}, {other}]"


def test_shown_are_the_amounts_in_force() -> None:
    one = container(limits={"cpu": "0.2", "memory": "100Mi", "example.com/x": "1"}, requests={"cpu": "100m"})
    assert shown_resources(one, None) == one.resources
    in_force = Applied(memory_limit=100 * MIB, cpu_limit=200, cpu_request=100)
    assert shown_resources(one, in_force) == one.resources
    shown = shown_resources(
        one, Applied(memory_limit=50 * MIB, memory_request=7, cpu_limit=150, cpu_request=20)
    )
    assert shown.limits == {"cpu": "150m", "memory": "50Mi", "example.com/x": "1"}
    assert shown.requests == {"cpu": "20m", "memory": "7"}
    assert shown_resources(container(), in_force) == ResourceRequirements()


def test_events_tell_the_resources() -> None:
    pod = make_pod(
        container("c1", limits={"memory": "200", "cpu": "1"}, requests={"memory": "100"}),
        container("c2"),
        init=(container("c0", {"cpu": "200m"}, {"cpu": "100m"}),),
    )
    assert summary("Pod resize started", pod, 2) == (
        'Pod resize started: {"initContainers":[{"name":"c0","resources":{"limits":{"cpu":"200m"},'
        '"requests":{"cpu":"100m"}}}],"containers":[{"name":"c1","resources":{"limits":{"cpu":"1",'
        '"memory":"200"},"requests":{"memory":"100"}}},{"name":"c2","resources":{}}],"generation":2}'
    )
    text = summary("Pod resize error", make_pod(container("c")), 3, 'no "room"')
    expected = '{"containers":[{"name":"c","resources":{}}],"generation":3,"error":"no \\"room\\""}'
    assert text == f"Pod resize error: {expected}"


def test_the_order_of_pending_resizes() -> None:
    granted = make_pod(container(requests={"cpu": "1"}))
    more, less = make_pod(container(requests={"cpu": "2"})), make_pod(container(requests={"cpu": "500m"}))
    urgent = make_pod(container(requests={"cpu": "2"}), priority=10)
    guaranteed = make_pod(container(limits={"cpu": "2", "memory": "1"}, requests={"cpu": "2", "memory": "1"}))
    ordered = [
        (less, None),
        (urgent, None),
        (guaranteed, None),
        (more, "2026-01-01T00:00:00Z"),
        (more, "2026-01-01T00:00:01Z"),
        (more, None),
    ]
    keys = [urgency(pod, granted, since) for pod, since in ordered]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


amounts = st.dictionaries(
    st.sampled_from(["cpu", "memory"]), st.sampled_from(["1m", "10m", "1", "2", "1Mi", "1Gi"])
)
specs = st.builds(
    lambda name, limits, requests, policy: container(name, limits, requests, **policy),
    st.sampled_from(["a", "b", "c"]),
    amounts,
    amounts,
    st.dictionaries(st.sampled_from(["cpu", "memory"]), st.sampled_from(["NotRequired", "RestartContainer"])),
)
pods = st.lists(specs, min_size=1, max_size=3, unique_by=lambda one: one.name).map(
    lambda all_: make_pod(*all_)
)
everything = st.builds(Applied, *[st.integers(0, 1 << 30)] * 4)
held = st.dictionaries(st.sampled_from(["a", "b", "c"]), everything)


@given(pods, held, st.sets(st.sampled_from(["a", "b", "c"])))
def test_after_all_steps_nothing_is_left_to_do(
    pod: Pod, before: dict[str, Applied], running: set[str]
) -> None:
    after = dict(before)
    containers = {one.name: one for one in pod.spec.containers or ()}
    for step in steps(pod, before, running):
        assert step.container in running
        after[step.container] = (
            step.after if isinstance(step, Update) else applied(pod, containers[step.container])
        )
    assert steps(pod, after, running) == []


@given(pods, pods)
def test_a_grant_survives_any_wish(wanted: Pod, granted: Pod) -> None:
    shown = with_resources(wanted, resources_of(granted))
    names = {one.name for one in granted.spec.containers or ()}
    for one in shown.spec.containers or ():
        if one.name in names:
            assert one.resources == resources_of(granted).containers[one.name]
    assert [one.name for one in shown.spec.containers or ()] == [
        one.name for one in wanted.spec.containers or ()
    ]
