"""Drivers that are not there, fail, hang and refuse: what is told, tried again and taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from csi_driver import NAME, FakeDriver
from csi_node import CsiNode, inline, pod
from grpc_server import RefusedError
from storage_api import StorageApi

from vkubelet.csi.protocol import NodePublishVolumeRequest, NodeStageVolumeRequest
from vkubelet.pods.volumes.csi import attachments, publishing
from vkubelet.pods.volumes.errors import VolumeError
from vkubelet.rpc.messages import Message

from .conftest import UNIQUE, fails, mount, refusal

pytestmark = pytest.mark.usefixtures("hasty")


async def test_what_is_not_attached_in_time_is_told(
    node: CsiNode, driver: FakeDriver, api: StorageApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "TIMEOUT", 0.05)
    node.claim()
    node.node.attaches.clear()
    assert await refusal(node, pod()) == (
        "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[v], "
        "failed to process volumes=[]: context deadline exceeded"
    )
    assert node.node.in_use == {UNIQUE}
    node.node.attaches.set()
    name = node.attachment.rpartition("/")[2]
    api.put(node.attachment, status={"attached": False})
    assert await refusal(node, pod()) == (
        'MountVolume.WaitForAttach failed for volume "pv" : '
        f"volume h is not attached for volume attachment {name}"
    )
    api.put(node.attachment, status={"attached": False, "attachError": {"message": "no such disk"}})
    assert await refusal(node, pod()) == 'MountVolume.WaitForAttach failed for volume "pv" : no such disk'
    del api.objects[node.attachment]
    assert await refusal(node, pod()) == (
        'MountVolume.WaitForAttach failed for volume "pv" : volume h has GET error for volume attachment '
        f'{name}: volumeattachments "{name}" not found'
    )
    assert driver.calls == []


async def test_a_driver_that_is_not_there_is_told_and_its_coming_is_news(lonely: CsiNode, root: Path) -> None:
    node = lonely
    node.claim()
    made = node.manager.pod(wanted := pod(), node.available.set)
    with pytest.raises(VolumeError) as error:
        await made.mount(wanted)
    assert error.value.messages == (
        'MountVolume.MountDevice failed for volume "pv" : kubernetes.io/csi: attacher.MountDevice failed to '
        f"create newCsiDriverClient: driver name {NAME} not found in the list of registered CSI drivers",
    )
    driver = FakeDriver(root)
    async with driver.serving():
        await asyncio.wait_for(node.available.wait(), 10)
        await made.mount(wanted)
        assert driver.names() == ["Stage", "Publish"]


@pytest.mark.parametrize(
    ("kind", "step"), [(NodeStageVolumeRequest, "MountDevice"), (NodePublishVolumeRequest, "SetUp")]
)
async def test_a_failure_is_told_and_leaves_nothing_to_take_back(
    node: CsiNode, driver: FakeDriver, root: Path, kind: type[Message], step: str
) -> None:
    driver.before = fails(kind, "INTERNAL", 1)
    node.claim()
    made = node.manager.pod(wanted := pod(), node.available.set)
    with pytest.raises(VolumeError) as error:
        await made.mount(wanted)
    assert error.value.messages == (
        f'MountVolume.{step} failed for volume "pv" : rpc error: code = Internal desc = broken disk',
    )
    assert not (node.target("u", "pv").parent / "vol_data.json").exists()
    staged = list((root / "plugins" / "kubernetes.io" / "csi" / NAME).iterdir())
    assert bool(staged) is (kind is NodePublishVolumeRequest)
    await made.mount(wanted)
    assert (node.target("u", "pv") / "volume").exists()


@pytest.mark.parametrize("kind", [NodeStageVolumeRequest, NodePublishVolumeRequest])
async def test_what_may_be_under_way_is_taken_back(
    node: CsiNode, driver: FakeDriver, kind: type[Message]
) -> None:
    driver.before = fails(kind, "ABORTED", 1)
    node.claim()
    made = node.manager.pod(wanted := pod(), node.available.set)
    with pytest.raises(VolumeError):
        await made.mount(wanted)
    await made.unmount()
    await driver.until(lambda: driver.names()[-1] == "Unstage")
    assert ("Unpublish" in driver.names()) is (kind is NodePublishVolumeRequest)


async def test_a_driver_that_hangs_is_given_up_and_costs_no_other_pod(
    node: CsiNode, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "TIMEOUT", 0.3)

    async def hang(request: Message) -> None:
        await asyncio.get_running_loop().create_future()

    driver.before = hang
    node.claim()
    slow = asyncio.create_task(refusal(node, pod()))
    await driver.until(lambda: driver.calls)
    await mount(node, pod("other", {"name": "data", "emptyDir": {}}))
    assert not slow.done()
    assert await slow == (
        'MountVolume.MountDevice failed for volume "pv" : '
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
    )


async def test_a_pods_end_does_not_wait_for_a_driver_that_hangs_at_its_start(
    node: CsiNode, driver: FakeDriver
) -> None:
    hung = asyncio.Event()

    async def hang(request: Message) -> None:
        if isinstance(request, NodeStageVolumeRequest) and not hung.is_set():
            hung.set()
            await asyncio.get_running_loop().create_future()

    driver.before = hang
    node.claim()
    made = node.manager.pod(wanted := pod(), node.available.set)
    mounting = asyncio.create_task(made.mount(wanted))
    await asyncio.wait_for(hung.wait(), 10)
    await asyncio.wait_for(made.unmount(), 10)
    await mounting
    await driver.until(lambda: driver.names() == ["Stage", "Unstage"])


async def test_renewals_do_not_wait_for_a_driver_that_hangs(
    node: CsiNode, driver: FakeDriver, api: StorageApi
) -> None:
    api.driver(NAME, volumeLifecycleModes=["Ephemeral"])

    async def hang(request: Message) -> None:
        await asyncio.get_running_loop().create_future()

    items = [{"path": "name", "fieldRef": {"fieldPath": "metadata.labels['x']"}}]
    made = node.manager.pod(
        wanted := pod("u", inline(), {"name": "info", "downwardAPI": {"items": items}}), node.available.set
    )
    driver.before = hang
    mounting = asyncio.create_task(made.mount(wanted))
    await driver.until(lambda: driver.calls)
    await node.until(lambda: made.host_path("info"))
    made.update(
        msgspec.structs.replace(wanted, metadata=msgspec.structs.replace(wanted.metadata, labels={"x": "y"}))
    )
    assert await asyncio.wait_for(made.renew(), 10) is None
    mounting.cancel()
    await asyncio.gather(mounting, return_exceptions=True)


async def test_an_end_waits_for_a_driver_that_is_gone(root: Path, lonely: CsiNode) -> None:
    node = lonely
    driver = FakeDriver(root)
    node.claim()
    async with driver.serving():
        await driver.registered()
        made = await mount(node, pod())
    ending = asyncio.create_task(made.unmount())
    await node.until(lambda: node.manager._csi._volumes._drivers.known(NAME) is None)
    assert (node.target("u", "pv") / "volume").exists()
    assert not ending.done()
    async with driver.serving():
        await asyncio.wait_for(ending, 10)
        await driver.until(lambda: driver.names() == ["Stage", "Publish", "Unpublish", "Unstage"])


async def test_a_driver_that_refuses_to_take_back_is_asked_again(node: CsiNode, driver: FakeDriver) -> None:
    node.claim()
    made = await mount(node, pod())
    left = ["Unstage", "Unpublish"]

    async def refuse(request: Message) -> None:
        if left and left[-1] == driver.names()[-1]:
            left.pop()
            raise RefusedError("INTERNAL", "busy")

    driver.before = refuse
    await made.unmount()
    expected = ["Stage", "Publish", "Unpublish", "Unpublish", "Unstage", "Unstage"]
    await driver.until(lambda: driver.names() == expected)
    await node.until(lambda: not node.node.in_use)


async def test_what_is_in_a_directory_that_no_driver_has_emptied_stays(
    node: CsiNode, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.claim()
    made = await mount(node, pod())
    kept = node.target("u", "pv") / "kept"
    kept.touch()
    monkeypatch.setattr("csi_driver._hide", lambda where: None)
    ending = asyncio.create_task(made.unmount())
    await driver.until(lambda: driver.names().count("Unpublish") >= 2)
    assert kept.exists()
    assert not ending.done()
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
