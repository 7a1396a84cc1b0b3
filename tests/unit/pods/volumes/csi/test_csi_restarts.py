"""Drivers' volumes over a restart of the agent: what the next one asks again, keeps and takes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from csi_driver import NAME, FakeDriver
from csi_node import CsiNode, csi_node, inline, pod
from storage_api import StorageApi

from vkubelet.csi.protocol import NodePublishVolumeRequest

from .conftest import UNIQUE, fails, mount, refusal

pytestmark = pytest.mark.usefixtures("hasty")


async def former_agent(root: Path, api: StorageApi) -> CsiNode:
    """One that is gone, and had mounted a pod's volume."""
    async with csi_node(root, api) as first:
        first.claim()
        await mount(first, pod())
    return first


async def test_the_next_agent_asks_again_and_takes_back(
    root: Path, api: StorageApi, driver: FakeDriver
) -> None:
    former = await former_agent(root, api)
    async with csi_node(root, api) as second:
        assert second.node.in_use == {UNIQUE}
        second.attachment = former.attachment
        made = await mount(second, pod())
        await second.manager.remove_others({"u"})
        assert driver.names() == ["Stage", "Publish", "Stage", "Publish"]
        await made.unmount()
        await driver.until(lambda: driver.names()[4:] == ["Unpublish", "Unstage"])


async def test_a_pod_that_ends_before_the_next_agent_mounts_is_taken_back(
    root: Path, api: StorageApi, driver: FakeDriver
) -> None:
    await former_agent(root, api)
    async with csi_node(root, api) as second:
        await second.manager.pod(pod(), second.available.set).unmount()
        await driver.until(lambda: driver.names()[2:] == ["Unpublish", "Unstage"])


async def test_what_an_agent_left_of_pods_that_are_gone_is_taken_back(
    root: Path, api: StorageApi, driver: FakeDriver
) -> None:
    async with csi_node(root, api) as first:
        first.claim()
        api.driver(NAME, volumeLifecycleModes=["Ephemeral", "Persistent"])
        await mount(first, pod("a"))
        await mount(first, pod("b", inline()))
    async with csi_node(root, api) as second:
        assert second.node.in_use == {UNIQUE}
        await asyncio.wait_for(second.manager.remove_others(set()), 10)
        await driver.until(lambda: driver.names()[-1] == "Unstage")
        assert sorted(driver.names()[3:]) == ["Unpublish", "Unpublish", "Unstage"]
        await second.until(lambda: not second.node.in_use)
    assert not list((root / "pods").iterdir())


@pytest.mark.parametrize("early", [False, True])
async def test_what_was_staged_for_nobody_is_taken_back(
    root: Path, api: StorageApi, driver: FakeDriver, early: bool
) -> None:
    async with csi_node(root, api) as first:
        first.claim()
        driver.before = fails(NodePublishVolumeRequest, "INTERNAL", 1)
        await refusal(first, pod())
    async with csi_node(root, api) as second:
        if early:
            second.manager._csi.settle()  # before any of its tasks has had a turn
        else:
            await second.manager.remove_others({"u"})
        await driver.until(lambda: driver.names()[-1] == "Unstage")


async def test_a_failure_after_a_restart_keeps_what_the_former_agent_got(
    root: Path, api: StorageApi, driver: FakeDriver
) -> None:
    await former_agent(root, api)
    async with csi_node(root, api) as second:
        driver.before = fails(NodePublishVolumeRequest, "INTERNAL", 1)
        await refusal(second, pod())
        assert (second.target("u", "pv") / "volume").exists()
        assert (second.target("u", "pv").parent / "vol_data.json").exists()


async def test_a_record_that_cannot_be_read_holds_up_nobody(
    root: Path, api: StorageApi, driver: FakeDriver
) -> None:
    async with csi_node(root, api) as first:
        first.claim()
        await mount(first, pod())
        (first.target("u", "pv").parent / "vol_data.json").write_text("{")
    async with csi_node(root, api) as second:
        await asyncio.wait_for(second.manager.remove_others(set()), 10)
        assert not (root / "pods" / "u").exists()
        await driver.until(lambda: driver.names()[-1] == "Unstage")
