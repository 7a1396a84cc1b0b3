"""Drivers' volumes from a pod's start to its end: what the pod gets, and what the driver is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from csi_driver import NAME, FakeDriver
from csi_node import CsiNode, csi_node, inline, pod
from storage_api import StorageApi

from vkubelet.csi.protocol import (
    SINGLE_NODE_MULTI_WRITER,
    VOLUME_MOUNT_GROUP,
    MountVolume,
    NodePublishVolumeRequest,
    NodeStageVolumeRequest,
)
from vkubelet.pods.volumes.csi import volumes
from vkubelet.pods.volumes.kinds import Mounted

from .conftest import UNIQUE, fails, mount, of, refusal

pytestmark = pytest.mark.usefixtures("hasty")


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
