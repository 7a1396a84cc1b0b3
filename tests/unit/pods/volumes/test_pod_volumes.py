"""A pod's volumes: set up, found again by the next agent, removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from fake_node import RoomyNode

from vkubelet.api.objects import Pod
from vkubelet.api.references import NoReferences
from vkubelet.config import Config
from vkubelet.pods.starter import StartError
from vkubelet.pods.volumes.errors import VolumeError
from vkubelet.pods.volumes.manager import VolumeManager


def pod(*volumes: dict[str, Any], mounts: list[dict[str, Any]] | None = None) -> Pod:
    if mounts is None:
        mounts = [{"name": volume["name"], "mountPath": f"/mnt/{volume['name']}"} for volume in volumes]
    container = {"name": "main", "volumeMounts": mounts}
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "uid-1"},
        "spec": {"containers": [container], "volumes": list(volumes)},
    }
    return msgspec.convert(document, Pod)


def nothing() -> None:
    pass


@pytest.fixture
def manager(tmp_path: Path) -> VolumeManager:
    return another(tmp_path)


def another(tmp_path: Path) -> VolumeManager:
    """What another agent of the same node has."""
    config = Config(root_dir=str(tmp_path / "root"), run_dir=str(tmp_path / "run"))
    return VolumeManager(
        config, references=NoReferences(), client=None, recorder=cast("Any", None), node=RoomyNode()
    )


async def test_an_empty_dir_is_made_kept_and_removed(manager: VolumeManager, tmp_path: Path) -> None:
    wanted = pod({"name": "data", "emptyDir": {}})
    volumes = manager.pod(wanted, nothing)
    await volumes.mount(wanted)
    path = volumes.host_path("data")
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o777
    (path / "kept").write_text("x")
    await manager.pod(wanted, nothing).mount(wanted)
    assert (path / "kept").read_text() == "x"
    (mount,) = volumes.mounts(wanted, wanted.spec.containers[0], {}).preopens  # type: ignore[index]
    assert (mount.host, mount.guest, mount.read_only) == (path, "/mnt/data", False)
    await volumes.unmount()
    assert list((tmp_path / "root" / "pods").iterdir()) == []
    await volumes.unmount()


async def test_a_volume_that_no_container_mounts_is_not_made(manager: VolumeManager) -> None:
    wanted = pod({"name": "data", "emptyDir": {}}, mounts=[])
    volumes = manager.pod(wanted, nothing)
    await volumes.mount(wanted)
    assert volumes.host_path("data") is None


async def test_failures_are_told_as_a_kubelet_does_and_the_rest_is_mounted(
    manager: VolumeManager, tmp_path: Path
) -> None:
    wanted = pod(
        {"name": "data", "emptyDir": {}},
        {"name": "huge", "emptyDir": {"medium": "HugePages-2Mi"}},
        {"name": "host", "hostPath": {"path": str(tmp_path / "f"), "type": "File"}},
    )
    volumes = manager.pod(wanted, nothing)
    with pytest.raises(VolumeError) as failure:
        await volumes.mount(wanted)
    assert failure.value.reason == "FailedMount"
    huge, host = failure.value.messages
    assert huge.startswith('MountVolume.SetUp failed for volume "huge" : medium HugePages-2Mi')
    assert host == (
        f'MountVolume.SetUp failed for volume "host" : hostPath type check failed, {tmp_path}/f is not '
        f'a file, unable to determine its type: path "{tmp_path}/f" does not exist'
    )
    assert volumes.host_path("data") is not None
    with pytest.raises(StartError, match='cannot find volume "huge" to mount into container "main"'):
        volumes.mounts(wanted, wanted.spec.containers[0], {})  # type: ignore[index]


async def test_what_is_left_of_other_pods_is_removed(manager: VolumeManager, tmp_path: Path) -> None:
    wanted = pod({"name": "data", "emptyDir": {}})
    volumes = manager.pod(wanted, nothing)
    await volumes.mount(wanted)
    path = volumes.host_path("data")
    assert path is not None
    manager.remove_others(set())
    another(tmp_path).remove_others({"uid-1"})
    assert path.is_dir()
    another(tmp_path).remove_others({"uid-2"})
    assert not path.exists()
