"""Pods that are admitted beside each other, by plugins that are slow, refuse, and lose devices meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run

from vkubelet.api.containers import Container, ResourceRequirements
from vkubelet.deviceplugins.allocator import Allocator
from vkubelet.deviceplugins.ledger import Ledger
from vkubelet.deviceplugins.messages import ContainerAllocateResponse, Device
from vkubelet.deviceplugins.pool import Pool
from vkubelet.pods.devices import DeviceError

R = "example.com/widget"
DEVICES = tuple("abcd")
PAUSES = st.sampled_from([0.0, 1.0, 2.0])


class Plugin:
    """Answers as its script says, one entry for each call: how long it takes, and whether it refuses."""

    resource = R

    def __init__(self, script: list[tuple[float, bool]], preferred: list[str]) -> None:
        self.script = iter(script)
        self.wished = preferred
        self.given: list[list[str]] = []

    async def _answer(self) -> None:
        pause, refuses = next(self.script, (0.0, False))
        await asyncio.sleep(pause)
        if refuses:
            raise DeviceError("refused")

    async def preferred(self, available: set[str], must_include: list[str], size: int) -> list[str]:
        await self._answer()
        return self.wished

    async def allocate(self, devices: list[str]) -> ContainerAllocateResponse:
        await self._answer()
        self.given.append(devices)
        return ContainerAllocateResponse()


@settings(max_examples=150, deadline=None)
@given(
    script=st.lists(st.tuples(PAUSES, st.booleans()), max_size=12),
    preferred=st.lists(st.sampled_from([*DEVICES, "stranger"]), max_size=3),
    pods=st.lists(st.tuples(PAUSES, st.integers(1, 3)), min_size=1, max_size=6),
    news=st.lists(st.tuples(PAUSES, st.sets(st.sampled_from(DEVICES))), max_size=3),
)
def test_no_device_goes_to_two_and_a_refusal_keeps_none(
    script: list[tuple[float, bool]],
    preferred: list[str],
    pods: list[tuple[float, int]],
    news: list[tuple[float, set[str]]],
) -> None:
    run(_admit_all(script, preferred, pods, news))


async def _admit_all(
    script: list[tuple[float, bool]],
    preferred: list[str],
    pods: list[tuple[float, int]],
    news: list[tuple[float, set[str]]],
) -> None:
    plugin, pool, ledger = Plugin(script, preferred), Pool[Any]([], 0), Ledger()
    pool.connected(R, "a.sock", cast("Any", plugin))
    pool.listed(R, [Device(id=name, health="Healthy") for name in DEVICES])
    allocator = Allocator(pool, ledger, lambda: None)
    refused: list[str] = []

    def check() -> None:
        held = [device for one in ledger.allocations() for device in one.devices]
        assert len(held) == len(set(held))
        assert set(held) <= ledger.in_use(R) <= set(DEVICES)

    async def admit(uid: str, pause: float, number: int) -> None:
        await asyncio.sleep(pause)
        limits = ResourceRequirements(limits={R: str(number)})
        try:
            await allocator.give(uid, Container(name="main", resources=limits), {})
        except DeviceError:
            refused.append(uid)
        else:
            found = ledger.find(uid, "main", R)
            assert found is not None
            assert len(set(found.devices)) == number
        check()

    async def tell() -> None:
        for pause, healthy in news:
            await asyncio.sleep(pause)
            health = {name: "Healthy" if name in healthy else "Unhealthy" for name in DEVICES}
            pool.listed(R, [Device(id=name, health=value) for name, value in health.items()])

    tasks = [admit(f"u{index}", *pod) for index, pod in enumerate(pods)]
    await asyncio.gather(*tasks, tell())
    holders = {one.pod for one in ledger.allocations()}
    assert holders == {f"u{index}" for index in range(len(pods))} - set(refused)
    # What nobody holds is nobody's: a refusal has left nothing behind.
    held = {device for one in ledger.allocations() for device in one.devices}
    assert ledger.in_use(R) == held
    for uid in holders:
        ledger.release(uid)
    assert ledger.in_use(R) == set()
