"""Volumes of directories on the real cluster: the pod's own, the machine's, claims, images, parts of them."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from guests import push_guest
from namespaces import Namespace
from waiting import eventually

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def mounter(cluster: Any) -> str:
    """The guest that looks at files and changes them."""
    return push_guest(cluster.registry, "mounter", "parts")


def mounting(*volumes: dict[str, Any], **container: Any) -> dict[str, Any]:
    """The parts of a pod that mounts each volume at `/NAME`."""
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    return {"volumes": list(volumes), "container": {"volumeMounts": mounts, **container}}


def printed(space: Namespace, pod: str, **options: Any) -> list[str]:
    """What the pod's guest printed before it ended."""
    space.wait(f"pod/{pod}", "jsonpath={.status.phase}=Succeeded")
    return space.kubectl("logs", pod, **options).splitlines()


def test_containers_share_an_empty_dir_that_goes_with_the_pod(
    space: Namespace, mounter: str, node: Any
) -> None:
    first = {
        "name": "first",
        "image": mounter,
        "args": ["write", "/data/x=1", "make", "/data/dir"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    parts = mounting({"name": "data", "emptyDir": {}})
    space.pod("own", mounter, "read", "/data/x", "list", "/data", "stay", initContainers=[first], **parts)
    space.wait("pod/own", "condition=Ready")
    eventually(lambda: "/data has dir x" in space.kubectl("logs", "own"), "what the first container wrote")
    uid = space.get("pod/own")["metadata"]["uid"]
    path = node.directory / "root" / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / "data"
    assert (path / "x").read_text() == "1"
    space.kubectl("delete", "pod", "own", "--timeout=30s")
    assert not (node.directory / "root" / "pods" / uid).exists()


def test_a_debugger_mounts_what_no_container_does(space: Namespace, mounter: str) -> None:
    space.pod("bare", mounter, "stay", volumes=[{"name": "data", "emptyDir": {}}])
    space.wait("pod/bare", "condition=Ready")
    debugger = {
        "name": "debug",
        "image": mounter,
        "args": ["write", "/data/x=1"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    patch = json.dumps({"spec": {"ephemeralContainers": [debugger]}})
    space.kubectl("patch", "pod", "bare", "--subresource=ephemeralcontainers", "--patch", patch)
    eventually(
        lambda: "wrote /data/x" in space.kubectl("logs", "bare", "-c", "debug", check=False), "what it wrote"
    )


def test_memory_is_full_at_its_limit(space: Namespace, mounter: str) -> None:
    parts = mounting({"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "64Ki"}})
    space.pod("fast", mounter, "fill", "/fast/x=131072", **parts, restartPolicy="Never")
    assert printed(space, "fast") == ["/fast/x: No space left on device"]


def test_huge_pages_are_refused(space: Namespace, mounter: str) -> None:
    parts = mounting({"name": "huge", "emptyDir": {"medium": "HugePages-2Mi"}})
    resources = {"limits": {"hugepages-2Mi": "2Mi", "memory": "64Mi"}}
    parts["container"]["resources"] = resources
    space.pod("huge", mounter, **parts, nodeName="wasm-node", nodeSelector=None)
    space.wait("pod/huge", "jsonpath={.status.phase}=Failed")
    assert "huge" in space.status("huge")["message"]


def test_a_host_path_of_the_wrong_type_holds_the_pod_back(
    space: Namespace, mounter: str, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.touch()
    parts = mounting({"name": "host", "hostPath": {"path": str(place), "type": "Directory"}})
    space.pod("host", mounter, "write", "/host/x=1", **parts, restartPolicy="Never")
    assert space.wait_event("host", "FailedMount") == (
        f'MountVolume.SetUp failed for volume "host" : hostPath type check failed: {place} is not a '
        "directory, it's a File"
    )
    place.unlink()
    place.mkdir()
    assert printed(space, "host") == ["wrote /host/x"]
    assert (place / "x").read_text() == "1"


def test_a_device_cannot_be_mounted(space: Namespace, mounter: str) -> None:
    parts = mounting({"name": "null", "hostPath": {"path": "/dev/null", "type": "CharDevice"}})
    space.pod("null", mounter, **parts)
    waiting = space.wait_reason("null", "CreateContainerConfigError")
    assert "a character device" in waiting["message"]


def test_parts_of_volumes_are_mounted_by_their_paths(space: Namespace, mounter: str) -> None:
    space.make("ConfigMap", "settings", data={"app.conf": "a=1", "other": "x"})
    mounts = [
        {"name": "config", "mountPath": "/etc/app.conf", "subPath": "app.conf"},
        {"name": "data", "mountPath": "/logs", "subPathExpr": "$(POD)/logs"},
        {"name": "data", "mountPath": "/all"},
        {"name": "data", "mountPath": "/all/inner", "subPath": "elsewhere", "readOnly": True},
    ]
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    space.pod(
        "parts",
        mounter,
        *("read", "/etc/app.conf", "write", "/logs/x=1", "list", "/all", "list", "/all/parts/logs"),
        *("write", "/all/inner/y=1", "list", "/all/elsewhere"),
        container={"volumeMounts": mounts, "env": env},
        volumes=[{"name": "config", "configMap": {"name": "settings"}}, {"name": "data", "emptyDir": {}}],
        restartPolicy="Never",
    )
    lines = printed(space, "parts")
    assert lines[:2] == ["/etc/app.conf: a=1", "wrote /logs/x"]
    assert set(lines[2].removeprefix("/all has ").split()) >= {"parts", "elsewhere"}
    assert lines[3] == "/all/parts/logs has x"
    assert lines[4].startswith("cannot write /all/inner/y: ")
    assert lines[5] == "/all/elsewhere has"


def test_a_link_that_a_guest_made_leads_out_of_no_volume(
    space: Namespace, mounter: str, tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "volume" / "out").symlink_to("../secret")
    volume = {"name": "host", "hostPath": {"path": str(tmp_path / "volume")}}
    mounts = [{"name": "host", "mountPath": "/part", "subPath": "out"}]
    space.pod(
        "escape",
        mounter,
        *("list", "/part"),
        container={"volumeMounts": mounts},
        volumes=[volume],
        restartPolicy="Never",
    )
    waiting = space.wait_reason("escape", "CreateContainerConfigError")
    assert waiting["message"] == 'failed to prepare subPath for volumeMount "host" of container "main"'
    (tmp_path / "volume" / "out").unlink()
    assert printed(space, "escape") == ["/part has"]
    assert list((tmp_path / "secret").iterdir()) == []


def test_a_guest_cannot_follow_its_own_link_out(space: Namespace, mounter: str, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "secret").write_text("of the host")
    parts = mounting({"name": "v", "hostPath": {"path": str(tmp_path / "volume")}})
    looks = [
        "link",
        "/v/up=../secret",
        "read",
        "/v/up",
        "link",
        "/v/absolute=/etc/hostname",
        "read",
        "/v/absolute",
    ]
    space.pod("links", mounter, *looks, **parts, restartPolicy="Never")
    assert not any("of the host" in line for line in printed(space, "links"))


@pytest.fixture
def local_volume(space: Namespace, cluster: Any, node: Any, tmp_path: Path) -> Any:
    """Makes a local volume and a claim that is bound to it; the volume's name."""
    made: list[str] = []

    def make(claim: str, path: Path, **spec: Any) -> str:
        name = f"{space.name}-{claim}"
        made.append(name)
        term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]}
        reference = {"namespace": space.name, "name": claim}
        modes = spec.pop("accessModes", ["ReadWriteOnce"])
        volume = {
            "capacity": {"storage": "1Gi"},
            "accessModes": modes,
            "storageClassName": "",
            "claimRef": reference,
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
            **spec,
        }
        document = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": volume,
        }
        cluster.kubectl("create", "--filename", "-", input=yaml.safe_dump(document))
        wanted = {
            "accessModes": modes,
            "storageClassName": "",
            "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}},
            **({"volumeMode": spec["volumeMode"]} if "volumeMode" in spec else {}),
        }
        space.make("PersistentVolumeClaim", claim, spec=wanted)
        space.wait(f"persistentvolumeclaim/{claim}", "jsonpath={.status.phase}=Bound")
        return name

    yield make
    for name in made:
        cluster.kubectl("delete", "persistentvolume", name, "--wait=false")


def claimed(name: str, claim: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "persistentVolumeClaim": {"claimName": claim, **more}}


def test_what_a_claim_leads_to_outlives_pods(
    space: Namespace, mounter: str, local_volume: Any, tmp_path: Path
) -> None:
    local_volume("data", tmp_path)
    context = {"fsGroup": 4321} if os.geteuid() == 0 else {}
    parts = mounting(claimed("data", "data"))
    space.pod(
        "writer", mounter, "write", "/data/x=1", **parts, securityContext=context, restartPolicy="Never"
    )
    assert printed(space, "writer") == ["wrote /data/x"]
    if context:
        assert tmp_path.stat().st_gid == 4321
        assert tmp_path.stat().st_mode & stat.S_ISGID
    parts = mounting(claimed("data", "data", readOnly=True))
    space.pod("reader", mounter, "read", "/data/x", "write", "/data/y=1", **parts, restartPolicy="Never")
    lines = printed(space, "reader")
    assert lines[0] == "/data/x: 1"
    assert lines[1].startswith("cannot write /data/y: ")
    space.kubectl("delete", "pod", "writer", "reader", "--timeout=30s")
    assert (tmp_path / "x").read_text() == "1"


def test_a_local_directory_that_is_missing_holds_the_pod_back(
    space: Namespace, mounter: str, local_volume: Any, tmp_path: Path
) -> None:
    name = local_volume("late", tmp_path / "late")
    space.pod("late", mounter, "list", "/v", **mounting(claimed("v", "late")), restartPolicy="Never")
    assert space.wait_event("late", "FailedMount") == (
        f'MountVolume.NewMounter initialization failed for volume "{name}" : '
        f'path "{tmp_path}/late" does not exist'
    )
    (tmp_path / "late").mkdir()
    assert printed(space, "late") == ["/v has"]


def test_a_claim_that_is_missing_holds_the_pod_back(
    space: Namespace, mounter: str, local_volume: Any, node: Any, tmp_path: Path
) -> None:
    parts = mounting(claimed("v", "absent"))
    space.pod("absent", mounter, "list", "/v", **parts, nodeName=node.name, restartPolicy="Never")
    assert space.wait_event("absent", "FailedMount") == (
        "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process "
        f"volumes=[v]: error processing PVC {space.name}/absent: failed to fetch PVC from API server: "
        'persistentvolumeclaims "absent" not found'
    )
    local_volume("absent", tmp_path)
    assert printed(space, "absent") == ["/v has"]


def test_a_block_volume_is_not_mounted(
    space: Namespace, mounter: str, local_volume: Any, tmp_path: Path
) -> None:
    local_volume("block", tmp_path, volumeMode="Block")
    space.pod("block", mounter, **mounting(claimed("v", "block")))
    message = space.wait_event("block", "FailedMount")
    assert message.endswith("volume v has volumeMode Block, but is specified in volumeMounts")


def test_an_artifacts_module_is_a_file(space: Namespace, cluster: Any, mounter: str) -> None:
    plugin = push_guest(cluster.registry, "hello", "as-a-volume")
    parts = mounting({"name": "plugin", "image": {"reference": plugin}})
    space.pod("image", mounter, "list", "/plugin", "write", "/plugin/x=1", **parts, restartPolicy="Never")
    lines = printed(space, "image")
    assert lines[0] == "/plugin has hello.wasm"
    assert lines[1].startswith("cannot write /plugin/x: ")


def test_an_image_that_cannot_be_pulled_is_an_error_of_its_container(
    space: Namespace, cluster: Any, mounter: str
) -> None:
    reference = f"{cluster.registry}/no-such-plugin:v1"
    space.pod("noimage", mounter, **mounting({"name": "plugin", "image": {"reference": reference}}))
    space.wait_reason("noimage", "ErrImagePull")
    # Events follow statuses.
    eventually(
        lambda: (
            f'Failed to pull image "{reference}"'
            in space.kubectl("get", "events", "--output=jsonpath={.items[*].message}")
        ),
        "the event about the image",
    )


def test_trust_anchors_reach_a_guest_and_follow_their_bundle(
    space: Namespace, cluster: Any, mounter: str
) -> None:
    version = cluster.kubectl("api-versions")
    if "certificates.k8s.io/v1\n" not in version:
        pytest.fail("this control plane has no ClusterTrustBundles")
    ca = base64.b64decode(
        json.loads(cluster.kubectl("config", "view", "--raw", "--output=json"))["clusters"][0]["cluster"][
            "certificate-authority-data"
        ]
    ).decode()
    name = f"{space.name}-anchors"
    source = {"clusterTrustBundle": {"name": name, "path": "ca.pem"}}
    parts = mounting({"name": "trust", "projected": {"sources": [source]}})
    space.pod("trust", mounter, "read", "/trust/ca.pem", **parts, restartPolicy="Never")
    assert space.wait_event("trust", "FailedMount").endswith(
        f'while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "{name}" not found'
    )
    document = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "ClusterTrustBundle",
        "metadata": {"name": name},
        "spec": {"trustBundle": ca},
    }
    cluster.kubectl("create", "--filename", "-", input=yaml.safe_dump(document))
    try:
        assert "-----BEGIN CERTIFICATE-----" in "\n".join(printed(space, "trust"))
    finally:
        cluster.kubectl("delete", "clustertrustbundle", name)
