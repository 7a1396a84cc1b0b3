"""Volumes of a real storage driver, Kubernetes' own mock, on the real cluster."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from guests import push_guest
from mock_driver import MockDriver
from namespaces import Namespace, encoded
from waiting import eventually

pytestmark = pytest.mark.integration

READS = ("read", "/data/volume")
FROM_DRIVER = "/data/volume: of the driver"


@pytest.fixture(scope="module")
def mounter(cluster: Any) -> str:
    return push_guest(cluster.registry, "mounter", "csi")


class Storage:
    """A driver of a test's own, and objects of the cluster about it."""

    def __init__(self, cluster: Any, space: Namespace, directory: Path) -> None:
        self.cluster = cluster
        self.space = space
        self.name = f"{uuid.uuid4().hex[:6]}.mock.example"
        self._directory = directory
        self._made: list[tuple[str, str]] = []
        self._drivers: list[MockDriver] = []

    def driver(
        self, node: Any, root: Path | None = None, *, start: bool = True, attach: bool = False, **spec: Any
    ) -> MockDriver:
        """The driver on a node; `spec` is its object's, without which there is none."""
        made = MockDriver(
            root or node.directory / "root", self.name, self._directory / "driver.log", attach=attach
        )
        self._drivers.append(made)
        if spec:
            self._make("storage.k8s.io/v1", "CSIDriver", self.name, spec=spec)
        if start:
            made.start()
        return made

    def claim(self, claim: str = "data", *, handle: str = "1", **spec: Any) -> str:
        """A claim that is bound to a volume of the driver; the volume's name."""
        name = f"{self.space.name}-{claim}"
        modes = spec.pop("accessModes", ["ReadWriteMany"])
        common = {"accessModes": modes, "storageClassName": ""}
        self._make(
            "v1",
            "PersistentVolume",
            name,
            spec={
                **common,
                "capacity": {"storage": "1Gi"},
                "claimRef": {"namespace": self.space.name, "name": claim},
                "csi": {"driver": self.name, "volumeHandle": handle, **spec.pop("csi", {})},
                **spec,
            },
        )
        requests = {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": name}
        self.space.make("PersistentVolumeClaim", claim, spec={**common, **requests})
        self.space.wait(f"persistentvolumeclaim/{claim}", "jsonpath={.status.phase}=Bound")
        return name

    def get(self, what: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cluster.kubectl("get", what, "--output=json"))
        return found

    def end(self) -> None:
        for driver in self._drivers:
            driver.stop()
        for kind, name in self._made:
            self.cluster.kubectl("delete", kind, name, "--ignore-not-found", "--wait=false")

    def _make(self, api: str, kind: str, name: str, **fields: Any) -> None:
        self._made.append((kind, name))
        document = {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **fields}
        self.cluster.kubectl("create", "--filename", "-", input=yaml.safe_dump(document))


@pytest.fixture
def storage(cluster: Any, space: Namespace, tmp_path: Path) -> Iterator[Storage]:
    made = Storage(cluster, space, tmp_path)
    yield made
    # Its pods need the driver to end.
    space.kubectl("delete", "pods", "--all", "--grace-period=0", "--timeout=60s")
    made.end()


def mounting(volume: dict[str, Any], node: Any = None) -> dict[str, Any]:
    """The parts of a pod that mounts a volume at /data."""
    mounts = [{"name": "data", "mountPath": "/data"}]
    where = {"nodeSelector": {"kubernetes.io/hostname": node.name}} if node is not None else {}
    return {
        "volumes": [{"name": "data", **volume}],
        "container": {"volumeMounts": mounts},
        "restartPolicy": "Never",
        **where,
    }


CLAIMED = {"persistentVolumeClaim": {"claimName": "data"}}


def printed(space: Namespace, pod: str) -> list[str]:
    """What the pod's guest printed before it ended."""
    space.wait(f"pod/{pod}", "jsonpath={.status.phase}=Succeeded")
    return space.kubectl("logs", pod).splitlines()


def test_the_cluster_knows_a_driver_for_as_long_as_it_is_here(storage: Storage, node: Any) -> None:
    driver = storage.driver(node)

    def known() -> dict[str, Any]:
        drivers = storage.get(f"csinode/{node.name}")["spec"]["drivers"] or []
        return next((one for one in drivers if one["name"] == storage.name), {})

    assert known() == {
        "name": storage.name,
        "nodeID": storage.name,
        "topologyKeys": ["io.kubernetes.storage.mock/node"],
        "allocatable": {"count": 7},
    }
    meta = storage.get(f"node/{node.name}")["metadata"]
    assert json.loads(meta["annotations"]["csi.volume.kubernetes.io/nodeid"])[storage.name] == storage.name
    assert meta["labels"]["io.kubernetes.storage.mock/node"] == "some-mock-node"
    driver.stop()
    eventually(lambda: known() == {}, "the driver is gone")


def test_pods_share_a_volume_that_is_staged_once(
    storage: Storage, space: Namespace, node: Any, mounter: str
) -> None:
    driver = storage.driver(node, attachRequired=False)
    storage.claim(csi={"fsType": "ext4", "volumeAttributes": {"a": "b"}})
    for pod in ("one", "other"):
        space.pod(pod, mounter, *READS, "write", "/data/x=1", "stay", **mounting(CLAIMED))
    for pod in ("one", "other"):
        eventually(lambda pod=pod: "wrote /data/x" in space.kubectl("logs", pod, check=False), "its output")
        assert space.kubectl("logs", pod).splitlines()[0] == FROM_DRIVER
    assert sorted(driver.volumes()) == ["Publish", "Publish", "Stage"]
    (stage,) = driver.requests("NodeStageVolume")
    assert stage["volume_context"] == {"a": "b"}
    assert stage["volume_capability"]["AccessType"] == {"Mount": {"fs_type": "ext4"}}
    space.kubectl("delete", "pod", "one", "--timeout=30s")
    assert "Unstage" not in driver.volumes()
    space.kubectl("delete", "pod", "other", "--timeout=30s")
    eventually(lambda: driver.volumes()[-1] == "Unstage", "it is unstaged")
    assert sorted(driver.volumes()) == ["Publish", "Publish", "Stage", "Unpublish", "Unpublish", "Unstage"]
    assert not (node.directory / "root" / "plugins" / "kubernetes.io" / "csi" / storage.name / "1").exists()


def test_secrets_reach_the_driver_for_the_step_that_they_are_for(
    storage: Storage, space: Namespace, node: Any, mounter: str
) -> None:
    driver = storage.driver(node, attachRequired=False)
    for secret in ("stage", "publish"):
        space.make("Secret", secret, data={"secretKey": encoded(secret)})

    def reference(name: str) -> dict[str, str]:
        return {"name": name, "namespace": space.name}

    storage.claim(
        csi={"nodeStageSecretRef": reference("stage"), "nodePublishSecretRef": reference("publish")}
    )
    space.pod("secret", mounter, *READS, **mounting(CLAIMED))
    assert printed(space, "secret") == [FROM_DRIVER]
    assert driver.requests("NodeStageVolume")[0]["secrets"] == {"secretKey": "stage"}
    assert driver.requests("NodePublishVolume")[0]["secrets"] == {"secretKey": "publish"}
    log = node.log.read_text()
    assert "secretKey" not in log


def test_an_inline_volume_tells_its_driver_of_the_pod(
    storage: Storage, space: Namespace, node: Any, mounter: str
) -> None:
    driver = storage.driver(
        node,
        attachRequired=False,
        podInfoOnMount=True,
        volumeLifecycleModes=["Ephemeral"],
        tokenRequests=[{"audience": "vault", "expirationSeconds": 600}],
    )
    volume = {"csi": {"driver": storage.name, "volumeAttributes": {"a": "b"}, "readOnly": True}}
    space.pod("inline", mounter, *READS, "write", "/data/x=1", **mounting(volume))
    lines = printed(space, "inline")
    assert lines[0] == FROM_DRIVER
    assert lines[1].startswith("cannot write /data/x: ")
    (publish,) = driver.requests("NodePublishVolume")
    context = publish["volume_context"]
    assert context["a"] == "b"
    assert context["csi.storage.k8s.io/pod.name"] == "inline"
    assert context["csi.storage.k8s.io/ephemeral"] == "true"
    assert json.loads(context["csi.storage.k8s.io/serviceAccount.tokens"])["vault"]["token"].count(".") == 2
    eventually(lambda: driver.volumes() == ["Publish", "Unpublish"], "it is taken back at the pod's end")


def test_a_driver_that_has_no_inline_volumes_gives_none(
    storage: Storage, space: Namespace, node: Any, mounter: str
) -> None:
    storage.driver(node, attachRequired=False)
    volume = {"csi": {"driver": storage.name}}
    # The API server refuses such a pod where it knows the driver's modes; the node does so for others.
    space.pod("inline", mounter, *READS, **mounting(volume))
    assert space.wait_event("inline", "FailedMount") == (
        'MountVolume.SetUp failed for volume "data" : kubernetes.io/csi: mounter.SetupAt failed to check '
        f'volume lifecycle mode: volume mode "Ephemeral" not supported by driver {storage.name} '
        '(only supports ["Persistent"])'
    )


def test_a_pod_waits_until_its_volume_is_attached(
    storage: Storage, space: Namespace, node: Any, mounter: str
) -> None:
    driver = storage.driver(node, attach=True, attachRequired=True)
    pv = storage.claim()
    space.pod("attached", mounter, *READS, "stay", **mounting(CLAIMED))

    def attachments() -> list[dict[str, Any]]:
        items = storage.get("volumeattachments")["items"]
        return [one for one in items if one["spec"]["source"].get("persistentVolumeName") == pv]

    eventually(attachments, "the controller asks for the attachment")
    (wanted,) = attachments()
    assert wanted["spec"]["nodeName"] == node.name

    def attach(**status: Any) -> None:
        # What a driver's attacher does.
        name, patch = wanted["metadata"]["name"], json.dumps({"status": status})
        arguments = ("--subresource=status", "--type=merge", "--patch", patch)
        storage.cluster.kubectl("patch", "volumeattachment", name, *arguments)

    attach(attached=False, attachError={"message": "no such disk", "time": "2026-01-01T00:00:00Z"})
    assert "no such disk" in space.wait_event("attached", "FailedAttachVolume")
    assert driver.volumes() == []
    attach(attached=True, attachError=None, attachmentMetadata={"device": "/dev/x"})
    eventually(lambda: FROM_DRIVER in space.kubectl("logs", "attached", check=False), "the pod runs", 90)
    assert driver.requests("NodeStageVolume")[0]["publish_context"] == {"device": "/dev/x"}
    unique = f"kubernetes.io/csi/{storage.name}^1"
    assert unique in storage.get(f"node/{node.name}")["status"]["volumesInUse"]
    space.kubectl("delete", "pod", "attached", "--grace-period=0", "--timeout=30s")
    eventually(lambda: attachments() == [], "the controller detaches what is not in use", 60)
    assert unique not in storage.get(f"node/{node.name}")["status"].get("volumesInUse", [])
    assert driver.volumes() == ["Stage", "Publish", "Unpublish", "Unstage"]


def test_a_driver_that_comes_late_starts_the_pod(
    storage: Storage, space: Namespace, node: Any, mounter: str
) -> None:
    driver = storage.driver(node, start=False, attachRequired=False)
    pv = storage.claim()
    space.pod("late", mounter, *READS, **mounting(CLAIMED, node))
    assert space.wait_event("late", "FailedMount") == (
        f'MountVolume.MountDevice failed for volume "{pv}" : kubernetes.io/csi: attacher.MountDevice failed '
        f"to create newCsiDriverClient: driver name {storage.name} not found in the list of registered CSI "
        "drivers"
    )
    driver.start()
    assert printed(space, "late") == [FROM_DRIVER]


@pytest.mark.parametrize("end", [MockDriver.stop, MockDriver.kill])
def test_a_pod_ends_once_its_driver_is_back(
    storage: Storage, space: Namespace, node: Any, mounter: str, end: Callable[[MockDriver], None]
) -> None:
    driver = storage.driver(node, attachRequired=False)
    storage.claim()
    space.pod("patient", mounter, *READS, "stay", **mounting(CLAIMED))
    space.wait("pod/patient", "condition=Ready")
    end(driver)
    space.kubectl("delete", "pod", "patient", "--grace-period=0", "--wait=false")
    eventually(lambda: f"is not taken back from {node.directory}" in node.log.read_text(), "the node tries")
    assert space.get("pod/patient")["metadata"]["deletionTimestamp"]
    driver.start()
    space.kubectl("wait", "pod/patient", "--for=delete", "--timeout=60s")
    eventually(lambda: driver.volumes()[-2:] == ["Unpublish", "Unstage"], "all of it is taken back")


def test_volumes_outlive_an_agent_that_is_killed(
    storage: Storage, space: Namespace, short_path: Path, start_node: Callable[..., Any], mounter: str
) -> None:
    own = start_node("csi-node", flag := f"--root-dir={short_path}")
    driver = storage.driver(own, short_path, attachRequired=False)
    storage.claim()
    for pod in ("stays", "goes"):
        space.pod(pod, mounter, *READS, "until", "/data/x=1", "stay", **mounting(CLAIMED, own))
        space.wait(f"pod/{pod}", "condition=Ready")
    os.kill(own.pid, signal.SIGKILL)
    space.kubectl("delete", "pod", "goes", "--force", "--grace-period=0")
    pods = short_path / "pods"
    assert len(list(pods.iterdir())) == 2
    own.start(flag)
    eventually(lambda: driver.called("NodeUnpublishVolume") == 1, "what the agent left is taken back")
    eventually(lambda: len(list(pods.iterdir())) == 1, "and removed")
    assert "Unstage" not in driver.volumes()
    target = pods / space.get("pod/stays")["metadata"]["uid"] / "volumes" / "kubernetes.io~csi"
    (mounted,) = target.glob("*/mount")
    (mounted / "x").write_text("1")
    eventually(lambda: "/data/x" in space.kubectl("logs", "stays"), "the guest still has its volume")
    space.kubectl("delete", "pod", "stays", "--grace-period=0", "--timeout=60s")
    eventually(lambda: driver.volumes()[-2:] == ["Unpublish", "Unstage"], "all of it is taken back")
