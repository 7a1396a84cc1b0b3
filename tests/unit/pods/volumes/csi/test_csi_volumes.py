"""Drivers' volumes from a pod's start to its end, with drivers that fail, hang, die and come back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from csi_driver import NAME, FakeDriver
from csi_node import CsiNode, csi_node, inline, pod
from grpc_server import RefusedError
from storage_api import StorageApi, storage_api

from vkubelet.csi.protocol import (
    SINGLE_NODE_MULTI_WRITER,
    VOLUME_MOUNT_GROUP,
    MountVolume,
    NodePublishVolumeRequest,
    NodeStageVolumeRequest,
)
from vkubelet.pods.volumes.csi import attachments, publishing, staging, volumes
from vkubelet.pods.volumes.errors import VolumeError
from vkubelet.pods.volumes.kinds import Mounted
from vkubelet.pods.volumes.pod import PodVolumes
from vkubelet.rpc.messages import Message

UNIQUE = f"kubernetes.io/csi/{NAME}^h"


@pytest.fixture
def root(short_path: Path) -> Path:
    return short_path


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (staging, volumes):
        monkeypatch.setattr(module, "RETRY_FIRST", 0.02)
        monkeypatch.setattr(module, "RETRY_LIMIT", 0.05)


@pytest.fixture
async def api() -> AsyncIterator[StorageApi]:
    async with storage_api() as made:
        yield made


@pytest.fixture
async def driver(root: Path) -> AsyncIterator[FakeDriver]:
    made = FakeDriver(root)
    async with made.serving():
        yield made


@pytest.fixture
async def lonely(root: Path, api: StorageApi) -> AsyncIterator[CsiNode]:
    """A node without a driver."""
    async with csi_node(root, api) as made:
        yield made


@pytest.fixture
async def node(lonely: CsiNode, driver: FakeDriver) -> CsiNode:
    """A node with the driver."""
    await driver.registered()
    return lonely


async def mount(node: CsiNode, wanted: Any) -> PodVolumes:
    made = node.manager.pod(wanted, node.available.set)
    await made.mount(wanted)
    return made


async def refusal(node: CsiNode, wanted: Any) -> str:
    """The message of a mount that fails."""
    with pytest.raises(VolumeError) as error:
        await mount(node, wanted)
    assert error.value.reason == "FailedMount"
    (message,) = error.value.messages
    return message


def of(driver: FakeDriver, kind: type[Message]) -> list[Any]:
    return [call for call in driver.calls if isinstance(call, kind)]


async def test_a_claim_is_attached_staged_and_published(
    node: CsiNode, driver: FakeDriver, api: StorageApi, root: Path
) -> None:
    node.claim(
        csi={"fsType": "ext4", "volumeAttributes": {"a": "b"}},
        mountOptions=["noatime"],
        accessModes=["ReadWriteMany"],
    )
    made = await mount(node, pod())
    assert made._mounted["v"] == Mounted(node.target("u", "pv"))
    assert (node.target("u", "pv") / "volume").read_text() == "h"
    assert node.node.in_use == {UNIQUE}
    (stage,), (publish,) = of(driver, NodeStageVolumeRequest), of(driver, NodePublishVolumeRequest)
    assert publish.staging_target_path == stage.staging_target_path
    assert stage.staging_target_path.startswith(f"{root}/plugins/kubernetes.io/csi/{NAME}/")
    assert stage.staging_target_path.endswith("/globalmount")
    for request in (stage, publish):
        assert (request.volume_id, request.publish_context) == ("h", {"device": "x"})
        assert request.volume_context == {"a": "b"}
        assert request.volume_capability.mount == MountVolume(fs_type="ext4", mount_flags=["noatime"])
        assert request.volume_capability.access_mode.mode == 5
    record = json.loads((node.target("u", "pv").parent / "vol_data.json").read_text())
    assert record["specVolID"] == "pv"
    assert record["volumeHandle"] == "h"
    assert record["volumeLifecycleMode"] == "Persistent"
    assert record["attachmentID"].startswith("csi-")
    await made.unmount()
    await driver.until(lambda: driver.names() == ["Stage", "Publish", "Unpublish", "Unstage"])
    await node.until(lambda: not node.node.in_use)
    assert not (root / "pods" / "u").exists()
    assert list((root / "plugins" / "kubernetes.io" / "csi" / NAME).iterdir()) == []


async def test_a_volume_is_staged_once_for_all_pods(node: CsiNode, driver: FakeDriver) -> None:
    node.claim()
    pods = [pod(f"u{number}") for number in range(3)]
    made = await asyncio.gather(*(mount(node, one) for one in pods))
    assert sorted(driver.names()) == ["Publish", "Publish", "Publish", "Stage"]
    await made[0].unmount()
    await made[1].unmount()
    assert "Unstage" not in driver.names()
    assert node.node.in_use == {UNIQUE}
    await made[2].unmount()
    await driver.until(lambda: driver.names()[-1] == "Unstage")
    await mount(node, pod("u9"))
    assert driver.names()[-2:] == ["Stage", "Publish"]


async def test_a_driver_without_staging_publishes_only(node: CsiNode, driver: FakeDriver, root: Path) -> None:
    driver.can = set()
    node.claim()
    made = await mount(node, pod())
    assert of(driver, NodePublishVolumeRequest)[0].staging_target_path == ""
    await made.unmount()
    await node.until(lambda: not node.node.in_use)
    assert driver.names() == ["Publish", "Unpublish"]
    assert not (root / "plugins" / "kubernetes.io").exists()


async def test_a_driver_that_attaches_nothing_is_waited_for_by_nobody(
    node: CsiNode, driver: FakeDriver, api: StorageApi
) -> None:
    node.claim()
    api.driver(NAME, attachRequired=False)
    node.node.attaches.clear()
    await mount(node, pod())
    assert node.node.in_use == frozenset()
    assert of(driver, NodeStageVolumeRequest)[0].publish_context == {}


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


async def test_an_inline_volume_is_the_pods_alone(node: CsiNode, driver: FakeDriver, api: StorageApi) -> None:
    api.driver(NAME, volumeLifecycleModes=["Ephemeral"], podInfoOnMount=True)
    api.put("/api/v1/namespaces/ns/secrets/s", data={"password": "cGFzcw=="})
    wanted = pod(
        "u",
        inline(fsType="xfs", readOnly=True, volumeAttributes={"a": "b"}, nodePublishSecretRef={"name": "s"}),
    )
    made = await mount(node, wanted)
    (publish,) = driver.calls
    assert isinstance(publish, NodePublishVolumeRequest)
    assert publish.volume_id == f"csi-{hashlib.sha256(b'uv').hexdigest()}"
    assert publish.readonly
    assert publish.secrets == {"password": "pass"}
    assert publish.publish_context == {}
    assert publish.volume_context == {
        "a": "b",
        "csi.storage.k8s.io/pod.name": "p-u",
        "csi.storage.k8s.io/pod.namespace": "ns",
        "csi.storage.k8s.io/pod.uid": "u",
        "csi.storage.k8s.io/serviceAccount.name": "robot",
        "csi.storage.k8s.io/ephemeral": "true",
    }
    assert "pass" not in repr(publish)
    assert made._mounted["v"] == Mounted(node.target("u"), read_only=True)
    assert node.node.in_use == frozenset()
    await made.unmount()
    assert driver.names() == ["Publish", "Unpublish"]


async def test_an_inline_volume_needs_a_driver_that_has_such(
    node: CsiNode, driver: FakeDriver, api: StorageApi
) -> None:
    text = await refusal(node, pod("u", inline()))
    assert text == (
        'MountVolume.SetUp failed for volume "v" : kubernetes.io/csi: mounter.SetupAt failed to check volume '
        f'lifecycle mode: volume mode "Ephemeral" not supported by driver {NAME} (no CSIDriver object)'
    )
    assert driver.calls == []


async def test_a_driver_of_claims_gives_no_inline_volumes(
    node: CsiNode, driver: FakeDriver, api: StorageApi
) -> None:
    api.driver(NAME, volumeLifecycleModes=["Persistent"])
    text = await refusal(node, pod("u", inline()))
    assert text.endswith(f'"Ephemeral" not supported by driver {NAME} (only supports ["Persistent"])')


async def test_tokens_go_to_a_driver_that_asks_for_them(
    node: CsiNode, driver: FakeDriver, api: StorageApi
) -> None:
    requests = [{"audience": ""}, {"audience": "vault", "expirationSeconds": 600}]
    api.driver(NAME, volumeLifecycleModes=["Ephemeral"], tokenRequests=requests)
    await mount(node, pod("u", inline()))
    (publish,) = of(driver, NodePublishVolumeRequest)
    found = json.loads(publish.volume_context["csi.storage.k8s.io/serviceAccount.tokens"])
    expires = "2100-01-01T00:00:00Z"
    assert found == {
        "": {"token": "for []", "expirationTimestamp": expires},
        "vault": {"token": "for ['vault']", "expirationTimestamp": expires},
    }
    assert publish.secrets == {}


async def test_tokens_may_be_secrets(node: CsiNode, driver: FakeDriver, api: StorageApi) -> None:
    api.driver(
        NAME,
        volumeLifecycleModes=["Ephemeral"],
        tokenRequests=[{"audience": "a"}],
        serviceAccountTokenInSecrets=True,
    )
    await mount(node, pod("u", inline()))
    (publish,) = of(driver, NodePublishVolumeRequest)
    assert list(publish.secrets) == ["csi.storage.k8s.io/serviceAccount.tokens"]
    assert publish.volume_context == {}


async def test_secrets_of_a_claims_volume_are_its_own(
    node: CsiNode, driver: FakeDriver, api: StorageApi
) -> None:
    reference = {"name": "s", "namespace": "other"}
    node.claim(csi={"nodeStageSecretRef": reference, "nodePublishSecretRef": {**reference, "name": "t"}})
    assert await refusal(node, pod()) == (
        'MountVolume.MountDevice failed for volume "pv" : fetching NodeStageSecretRef other/s failed: '
        "kubernetes.io/csi: failed to find the secret s in the namespace other with error: "
        'secret "s" not found'
    )
    api.put("/api/v1/namespaces/other/secrets/s", data={"k": "c3RhZ2U="})
    assert (await refusal(node, pod())).startswith(
        'MountVolume.SetUp failed for volume "pv" : fetching NodePublishSecretRef other/t failed: '
    )
    api.put("/api/v1/namespaces/other/secrets/t", data={"k": "//8="})
    assert (await refusal(node, pod())).endswith("it holds what is not UTF-8")
    api.put("/api/v1/namespaces/other/secrets/t", data={"k": "cHVi"})
    await mount(node, pod())
    assert of(driver, NodeStageVolumeRequest)[0].secrets == {"k": "stage"}
    assert of(driver, NodePublishVolumeRequest)[0].secrets == {"k": "pub"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to groups")
@pytest.mark.parametrize(
    ("policy", "fs_type", "modes", "expected"),
    [
        ("ReadWriteOnceWithFSType", "ext4", ["ReadWriteOnce"], True),
        ("ReadWriteOnceWithFSType", "", ["ReadWriteOnce"], False),
        ("ReadWriteOnceWithFSType", "ext4", ["ReadWriteMany"], False),
        ("File", "", ["ReadWriteMany"], True),
        ("None", "ext4", ["ReadWriteOnce"], False),
    ],
)
async def test_files_are_given_to_the_group_as_the_driver_wants_it(
    node: CsiNode,
    driver: FakeDriver,
    api: StorageApi,
    policy: str,
    fs_type: str,
    modes: list[str],
    expected: bool,
) -> None:
    api.driver(NAME, fsGroupPolicy=policy)
    node.claim(csi={"fsType": fs_type}, accessModes=modes)
    await mount(node, pod(securityContext={"fsGroup": 4321}))
    assert (node.target("u", "pv").stat().st_gid == 4321) is expected
    assert of(driver, NodePublishVolumeRequest)[0].volume_capability.mount.volume_mount_group == ""


async def test_a_driver_may_apply_the_group_itself(
    node: CsiNode, driver: FakeDriver, api: StorageApi
) -> None:
    driver.can |= {VOLUME_MOUNT_GROUP, SINGLE_NODE_MULTI_WRITER}
    node.claim(csi={"fsType": "ext4"})
    await mount(node, pod(securityContext={"fsGroup": 4321}))
    for request in driver.calls:
        capability = request.volume_capability  # type: ignore[attr-defined]
        assert capability.mount.volume_mount_group == "4321"
        assert capability.access_mode.mode == 7
    assert node.target("u", "pv").stat().st_gid != 4321


def fails(kind: type[Message], code: str, times: int) -> Any:
    """What has a driver refuse the first calls of a kind."""
    left = [None] * times

    async def before(request: Message) -> None:
        if isinstance(request, kind) and left:
            left.pop()
            raise RefusedError(code, "broken disk")

    return before


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


async def test_the_next_agent_asks_again_and_takes_back(
    root: Path, api: StorageApi, driver: FakeDriver
) -> None:
    async with csi_node(root, api) as first:
        first.claim()
        await mount(first, pod())
    async with csi_node(root, api) as second:
        assert second.node.in_use == {UNIQUE}
        second.attachment = first.attachment
        made = await mount(second, pod())
        await second.manager.remove_others({"u"})
        assert driver.names() == ["Stage", "Publish", "Stage", "Publish"]
        await made.unmount()
        await driver.until(lambda: driver.names()[4:] == ["Unpublish", "Unstage"])


async def test_a_pod_that_ends_before_the_next_agent_mounts_is_taken_back(
    root: Path, api: StorageApi, driver: FakeDriver
) -> None:
    async with csi_node(root, api) as first:
        first.claim()
        await mount(first, pod())
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


async def test_what_was_staged_for_nobody_is_taken_back(
    root: Path, api: StorageApi, driver: FakeDriver
) -> None:
    async with csi_node(root, api) as first:
        first.claim()
        driver.before = fails(NodePublishVolumeRequest, "INTERNAL", 1)
        await refusal(first, pod())
    async with csi_node(root, api) as second:
        await second.manager.remove_others({"u"})
        await driver.until(lambda: driver.names()[-1] == "Unstage")


async def test_what_was_staged_for_nobody_is_taken_back_however_late_the_agent_runs(
    root: Path, api: StorageApi, driver: FakeDriver
) -> None:
    async with csi_node(root, api) as first:
        first.claim()
        driver.before = fails(NodePublishVolumeRequest, "INTERNAL", 1)
        await refusal(first, pod())
    async with csi_node(root, api) as second:
        second.manager._csi.settle()  # before any of its tasks has had a turn
        await driver.until(lambda: driver.names()[-1] == "Unstage")


async def test_a_failure_after_a_restart_keeps_what_the_former_agent_got(
    root: Path, api: StorageApi, driver: FakeDriver
) -> None:
    async with csi_node(root, api) as first:
        first.claim()
        await mount(first, pod())
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


async def test_a_driver_that_wants_it_is_asked_from_time_to_time(
    node: CsiNode, driver: FakeDriver, api: StorageApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "REPUBLISH_PERIOD", 0.02)
    api.driver(NAME, volumeLifecycleModes=["Ephemeral"], requiresRepublish=True)
    made = await mount(node, pod("u", inline()))
    await driver.until(lambda: driver.names().count("Publish") >= 3)
    driver.before = fails(NodePublishVolumeRequest, "INTERNAL", 1)
    await node.until(lambda: node.events)
    assert node.events == [
        'FailedMount: MountVolume.SetUp failed for volume "v" : rpc error: code = Internal desc = broken disk'
    ]
    assert (node.target("u") / "volume").exists()
    asked = driver.names().count("Publish")
    await driver.until(lambda: driver.names().count("Publish") > asked)
    await made.unmount()
    assert driver.names()[-1] == "Unpublish"


async def test_a_node_alone_has_no_volumes_of_drivers(root: Path) -> None:
    async with csi_node(root, None) as node:
        assert await refusal(node, pod("u", inline())) == (
            'MountVolume.NewMounter initialization failed for volume "v" : kubernetes.io/csi: failed to get '
            "a kubernetes client: this node runs without an API server"
        )


def test_a_node_that_meets_no_driver_has_nothing_of_what_speaks_with_one() -> None:
    code = (
        "import sys, vkubelet.agent\n"
        "found = [name for name in sys.modules if name.startswith('vkubelet.pods.volumes.csi.')]\n"
        "assert found == ['vkubelet.pods.volumes.csi.on_demand'], found\n"
        "assert 'vkubelet.csi.protocol' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_what_speaks_with_drivers_is_there_once_a_pod_wants_a_volume_of_one(lonely: CsiNode) -> None:
    assert lonely.manager._csi._volumes is None
    await refusal(lonely, pod("u", inline()))
    assert lonely.manager._csi._volumes is not None
