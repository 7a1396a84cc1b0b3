"""A pod's volumes: set up, found again by the next agent, removed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from fake_node import RoomyNode
from object_server import ObjectServer, object_server

from vkubelet import clock
from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient
from vkubelet.api.containers import Container
from vkubelet.api.credentials import Credentials
from vkubelet.api.objects import Pod
from vkubelet.api.references import NoReferences, ObjectReferences
from vkubelet.api.volumes import Volume
from vkubelet.config import Config
from vkubelet.pods.start_error import NotMountedError, StartError
from vkubelet.pods.volumes.errors import VolumeError
from vkubelet.pods.volumes.kinds import Mounted, Prepared
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


async def test_what_an_ephemeral_container_mounts_too_is_made_when_it_comes(manager: VolumeManager) -> None:
    wanted = pod({"name": "data", "emptyDir": {}}, {"name": "more", "emptyDir": {}}, mounts=[])
    volumes = manager.pod(wanted, nothing)
    await volumes.mount(wanted)
    assert volumes.has_all(wanted)
    more = [{"name": "debug", "volumeMounts": [{"name": "more", "mountPath": "/more"}]}]
    spec = msgspec.structs.replace(wanted.spec, ephemeral_containers=msgspec.convert(more, list[Container]))
    later = msgspec.structs.replace(wanted, spec=spec)
    assert not volumes.has_all(later)
    await volumes.mount(later)
    assert volumes.has_all(later)
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
    await manager.remove_others(set())
    await another(tmp_path).remove_others({"uid-1"})
    assert path.is_dir()
    await another(tmp_path).remove_others({"uid-2"})
    assert not path.exists()


class Slow:
    """A kind that waits until it is let go on."""

    renewed = False

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        self.asked.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody completes it")


async def test_an_end_does_not_wait_for_a_mount_that_hangs(manager: VolumeManager, tmp_path: Path) -> None:
    slow = Slow()
    cast("dict[str, Any]", manager._node.kinds)["configMap"] = slow
    wanted = pod({"name": "data", "emptyDir": {}}, {"name": "slow", "configMap": {"name": "x"}})
    volumes = manager.pod(wanted, nothing)
    mounting = asyncio.create_task(volumes.mount(wanted))
    async with asyncio.timeout(10):
        await slow.asked.wait()
        await volumes.unmount()
        await mounting
        await volumes.mount(wanted)
    assert not (tmp_path / "root" / "pods" / "uid-1").exists()


async def test_a_mount_that_is_cancelled_ends(manager: VolumeManager) -> None:
    slow = Slow()
    cast("dict[str, Any]", manager._node.kinds)["configMap"] = slow
    wanted = pod({"name": "slow", "configMap": {"name": "x"}})
    mounting = asyncio.create_task(manager.pod(wanted, nothing).mount(wanted))
    await slow.asked.wait()
    mounting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await mounting


class Token:
    """A kind that shows a token, and whose next one does not come."""

    renewed = True

    def __init__(self, path: Path) -> None:
        self.again = asyncio.Event()
        self._step = Prepared(lambda: Mounted(path, read_only=True), clock.now() + 3600)
        self._asked = 0

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        self._asked += 1
        if self._asked > 1:
            self.again.set()
            await asyncio.get_running_loop().create_future()
        return self._step


async def test_what_was_renewed_when_its_pod_ended_is_renewed_no_more(
    manager: VolumeManager, tmp_path: Path
) -> None:
    token = Token(tmp_path)
    cast("dict[str, Any]", manager._node.kinds)["projected"] = token
    wanted = pod({"name": "token", "projected": {}})
    volumes = manager.pod(wanted, nothing)
    await volumes.mount(wanted)
    renewing = asyncio.create_task(volumes.renew())
    await token.again.wait()
    await volumes.unmount()
    assert await renewing is None


class Coming:
    """A kind whose volumes are complete when `there` is set."""

    renewed = False

    def __init__(self, path: Path) -> None:
        self.there = asyncio.Event()
        self._path = path

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        async def rest() -> Prepared:
            await self.there.wait()
            return Prepared(lambda: Mounted(self._path))

        return Prepared(lambda: Mounted(self._path), at_once=True, rest=rest)


async def test_what_comes_later_is_told_of_once_all_else_is_there(
    manager: VolumeManager, tmp_path: Path
) -> None:
    late, told = Coming(tmp_path), asyncio.Event()
    cast("dict[str, Any]", manager._node.kinds)["projected"] = late
    wanted = pod({"name": "token", "projected": {}}, {"name": "data", "emptyDir": {}})
    volumes, container = manager.pod(wanted, nothing), (wanted.spec.containers or ())[0]
    mounting = asyncio.create_task(volumes.mount(wanted, told.set))
    async with asyncio.timeout(10):
        await told.wait()
        assert [mount.guest for mount in volumes.mounts(wanted, container, {}).preopens] == [
            "/mnt/token",
            "/mnt/data",
        ]
        assert not volumes.has_all(wanted)
        completing = asyncio.create_task(volumes.complete(wanted))
        await asyncio.sleep(0)
        assert not completing.done()
        late.there.set()
        await mounting
        await completing
    assert volumes.has_all(wanted)


async def test_nobody_makes_anything_ready_for_volumes_of_which_one_has_failed(
    manager: VolumeManager, tmp_path: Path
) -> None:
    late = Coming(tmp_path)
    late.there.set()
    cast("dict[str, Any]", manager._node.kinds)["projected"] = late
    wanted = pod({"name": "token", "projected": {}}, {"name": "huge", "emptyDir": {"medium": "HugePages"}})
    volumes, told = manager.pod(wanted, nothing), asyncio.Event()
    with pytest.raises(VolumeError):
        await volumes.mount(wanted, told.set)
    assert not told.is_set()
    assert volumes.host_path("token") is not None
    with pytest.raises(NotMountedError):
        await volumes.complete(wanted)


@pytest.mark.parametrize("how", ["unmounted", "cancelled"])
async def test_who_waits_for_volumes_that_come_no_more_is_told(
    manager: VolumeManager, tmp_path: Path, how: str
) -> None:
    cast("dict[str, Any]", manager._node.kinds)["projected"] = Coming(tmp_path)
    wanted, told = pod({"name": "token", "projected": {}}), asyncio.Event()
    volumes = manager.pod(wanted, nothing)
    mounting = asyncio.create_task(volumes.mount(wanted, told.set))
    async with asyncio.timeout(10):
        await told.wait()
        completing = asyncio.create_task(volumes.complete(wanted))
        await asyncio.sleep(0)
        if how == "cancelled":
            mounting.cancel()
        else:
            await volumes.unmount()
        await asyncio.wait([mounting])
        with pytest.raises(NotMountedError):
            await completing
        container = (wanted.spec.containers or ())[0]
        with pytest.raises(StartError, match="cannot find volume"):
            volumes.mounts(wanted, container, {})


@dataclasses.dataclass
class Live:
    """A node's volumes with objects that change."""

    server: ObjectServer
    manager: VolumeManager
    events: list[str]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  files tell nobody of their change
                await asyncio.sleep(0.01)


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    events: list[str] = []

    class Recorder:
        def event(self, _ref: object, _type: str, reason: str, message: str) -> None:
            events.append(f"{reason}: {message}")

    async with object_server() as server, asyncio.TaskGroup() as group:
        client = ApiClient(Credentials(server.url), Path("/nowhere"))
        references = ObjectReferences(client, backoff=lambda: Backoff(0.001, 0.01))
        config = Config(root_dir=str(tmp_path / "root"), run_dir=str(tmp_path / "run"))
        manager = VolumeManager(
            config, references=references, client=client, recorder=Recorder(), node=RoomyNode()
        )
        tasks = [group.create_task(part) for part in (references.run(), manager.run())]
        yield Live(server, manager, events)
        for task in tasks:
            task.cancel()
        await client.close()


def shown(name: str) -> Pod:
    return pod({"name": "config", "configMap": {"name": name}}, {"name": "data", "emptyDir": {}})


async def test_what_was_missing_is_told_and_mounted_when_it_is_there(live: Live) -> None:
    wanted, available = shown("late"), asyncio.Event()
    volumes = live.manager.pod(wanted, available.set)
    with pytest.raises(VolumeError) as failure:
        await volumes.mount(wanted)
    assert failure.value.messages == (
        'MountVolume.SetUp failed for volume "config" : configmap "late" not found',
    )
    assert 0.25 <= failure.value.retry_after <= 0.5
    with pytest.raises(VolumeError) as failure:
        await volumes.mount(wanted)
    assert 0.5 <= failure.value.retry_after <= 1.0
    live.server.put("configmaps", "late", "ns", data={"k": "1"})
    async with asyncio.timeout(10):
        await available.wait()
    await volumes.mount(wanted)
    path = volumes.host_path("config")
    assert path is not None
    assert (path / "k").read_text() == "1"


async def test_changes_are_shown_and_what_fails_then_is_told_and_mended(live: Live) -> None:
    live.server.put("configmaps", "live", "ns", data={"k": "1"})
    wanted = shown("live")
    volumes = live.manager.pod(wanted, nothing)
    await volumes.mount(wanted)
    path = volumes.host_path("config")
    assert path is not None
    live.server.put("configmaps", "live", "ns", data={"k": "2"})
    await live.until(lambda: (path / "k").read_text() == "2")
    live.server.delete("configmaps", "live", "ns")
    await live.until(lambda: live.events)
    expected = 'FailedMount: MountVolume.SetUp failed for volume "config" : configmap "live" not found'
    assert live.events[0] == expected
    assert (path / "k").read_text() == "2"
    live.server.put("configmaps", "live", "ns", data={"k": "3"})
    await live.until(lambda: (path / "k").read_text() == "3")


async def test_pods_that_share_an_object_share_its_watch_and_the_last_ends_it(live: Live) -> None:
    live.server.put("configmaps", "shared", "ns", data={"k": "1"})
    pods = []
    for number in range(50):
        wanted = shown("shared")
        wanted.metadata.uid = f"uid-{number}"
        pods.append((wanted, live.manager.pod(wanted, nothing)))
    await asyncio.gather(*(volumes.mount(wanted) for wanted, volumes in pods))
    await live.until(lambda: live.server.watching("configmaps", "shared", "ns"))
    assert live.server.watching("configmaps", "shared", "ns") == 1
    assert live.server.asked.count("get shared") == 1
    live.server.put("configmaps", "shared", "ns", data={"k": "2"})
    for _, volumes in pods:
        path = volumes.host_path("config")
        assert path is not None
        await live.until(lambda path=path: (path / "k").read_text() == "2")  # type: ignore[misc]
    for _, volumes in pods:
        await volumes.unmount()
    await live.server.unwatched("configmaps", "shared", "ns")


async def test_labels_are_followed(live: Live) -> None:
    items = [{"path": "color", "fieldRef": {"fieldPath": "metadata.labels['color']"}}]
    wanted = pod({"name": "info", "downwardAPI": {"items": items}})
    volumes = live.manager.pod(wanted, nothing)
    await volumes.mount(wanted)
    path = volumes.host_path("info")
    assert path is not None
    assert (path / "color").read_text() == ""
    volumes.update(
        msgspec.structs.replace(
            wanted, metadata=msgspec.structs.replace(wanted.metadata, labels={"color": "blue"})
        )
    )
    await live.until(lambda: (path / "color").read_text() == "blue")


async def test_a_volume_that_is_too_full_is_told(manager: VolumeManager) -> None:
    wanted = pod({"name": "data", "emptyDir": {"sizeLimit": "8Ki"}})
    volumes = manager.pod(wanted, nothing)
    assert await volumes.exceeded() is None
    await volumes.mount(wanted)
    assert await volumes.exceeded() is None
    path = volumes.host_path("data")
    assert path is not None
    (path / "large").write_bytes(b"x" * 16384)
    expected = 'Usage of EmptyDir volume "data" exceeds the limit "8Ki". '
    assert await volumes.exceeded() == expected
    await volumes.unmount()
    assert await volumes.exceeded() is None
