"""Who has which device: no two pods one device, and none lost, whatever happens in which order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vkubelet.deviceplugins.ledger import Allocation, Ledger, chosen
from vkubelet.deviceplugins.messages import ContainerAllocateResponse

R = "example.com/widget"


def allocation(
    pod: str = "u", container: str = "c", resource: str = R, devices: tuple[str, ...] = ("d1",)
) -> Allocation:
    return Allocation(
        pod=pod,
        container=container,
        resource=resource,
        devices=devices,
        response=ContainerAllocateResponse(),
    )


def test_what_is_given_is_in_use_until_its_pod_is_gone() -> None:
    ledger = Ledger()
    ledger.give(allocation(devices=("d1", "d2")))
    assert ledger.in_use(R) == {"d1", "d2"}
    assert ledger.counts() == {R: 2}
    assert ledger.holders(R, ["d2", "d3"]) == {"u"}
    assert ledger.holders("example.com/other", ["d2"]) == set()
    assert ledger.release("u")
    assert not ledger.release("u")
    assert ledger.in_use(R) == set()


def test_what_was_chosen_is_in_use_until_it_is_given_or_not() -> None:
    ledger = Ledger()
    with ledger.choosing(R, ["d1"]), ledger.choosing(R, ["d1", "d2"]):
        assert ledger.in_use(R) == {"d1", "d2"}
    assert ledger.in_use(R) == set()
    with pytest.raises(ValueError, match="refused"), ledger.choosing(R, ["d1"]):
        raise ValueError("refused")
    assert ledger.in_use(R) == set()


def test_a_container_has_one_set_of_each_resource() -> None:
    ledger = Ledger([allocation(), allocation(resource="example.com/other", devices=("x",))])
    ledger.give(allocation(devices=("d2",)))
    assert ledger.in_use(R) == {"d2"}
    assert [one.devices for one in ledger.of_container("u", "c")] == [("x",), ("d2",)]


def test_two_pods_that_an_earlier_agent_gave_one_device_both_hold_it() -> None:
    ledger = Ledger([allocation("u"), allocation("v")])
    ledger.release("u")
    assert ledger.in_use(R) == {"d1"}
    assert ledger.keep_only([])
    assert not ledger.keep_only([])
    assert ledger.in_use(R) == set()


@given(st.integers(0, 6), st.lists(st.lists(st.sampled_from("abcdef"), unique=True), max_size=3))
def test_choices_are_of_the_first_pools_and_never_twice(needed: int, pools: list[list[str]]) -> None:
    found = chosen(needed, *pools)
    in_order = list(dict.fromkeys(device for pool in pools for device in pool))
    assert found == in_order[:needed]


DEVICES = frozenset("abcde")
PODS = ("u", "v", "w")
CONTAINERS = ("init", "main")


class Devices(RuleBasedStateMachine):
    """Pods that are admitted beside each other, restarts of the agent, and plugins that refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.open: list[tuple[Allocation, object]] = []

    def free(self) -> set[str]:
        return set(DEVICES - self.ledger.in_use(R))

    @rule(pod=st.sampled_from(PODS), container=st.sampled_from(CONTAINERS), needed=st.integers(1, 3))
    def choose(self, pod: str, container: str, needed: int) -> None:
        if self.ledger.find(pod, container, R) or any(
            (one.pod, one.container) == (pod, container) for one, _ in self.open
        ):
            return
        free = self.free()
        if len(free) < needed:
            return
        devices = chosen(needed, sorted(free))
        context = self.ledger.choosing(R, devices)
        context.__enter__()
        self.open.append((allocation(pod, container, devices=tuple(devices)), context))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), granted=st.booleans())
    def answer(self, data: st.DataObject, granted: bool) -> None:
        one, context = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        if granted:
            self.ledger.give(one)
        context.__exit__(None, None, None)  # type: ignore[attr-defined]

    @rule(pod=st.sampled_from(PODS))
    def release(self, pod: str) -> None:
        if not any(one.pod == pod for one, _ in self.open):
            self.ledger.release(pod)

    @rule(pods=st.sets(st.sampled_from(PODS)))
    def restart(self, pods: set[str]) -> None:
        self.open.clear()
        self.ledger = Ledger(self.ledger.allocations())
        self.ledger.keep_only(pods)

    @invariant()
    def no_device_is_given_twice_and_none_is_lost(self) -> None:
        held = [device for one in self.ledger.allocations() for device in one.devices]
        held += [device for one, _ in self.open for device in one.devices]
        assert len(held) == len(set(held))
        assert set(held) | self.free() == DEVICES
        assert set(held).isdisjoint(self.free())


TestDevices = Devices.TestCase
TestDevices.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
