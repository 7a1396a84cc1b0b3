"""The node's devices over real sockets: plugins that lie, hang and die, and pods that want the same."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
from device_plugin import FakePlugin, running

from vkubelet.api.containers import Container, ResourceRequirements
from vkubelet.api.objects import ContainerStatus, ObjectMeta, Pod, PodSpec, ResourceStatus
from vkubelet.config import Config
from vkubelet.deviceplugins import plugin as plugin_module
from vkubelet.deviceplugins import pool as pool_module
from vkubelet.deviceplugins.messages import (
    ALLOCATE,
    GET_OPTIONS,
    LIST_AND_WATCH,
    CDIDevice,
    ContainerAllocateResponse,
    DevicePluginOptions,
)
from vkubelet.deviceplugins.on_demand import CHECKPOINT, DevicesOnDemand
from vkubelet.pods.devices import DeviceError
from vkubelet.rpc.client import RpcError

R = "example.com/widget"
TWO = {"d1": "Healthy", "d2": "Healthy"}


class World:
    """A node's device manager, as one agent after another has it."""

    def __init__(self, directory: Path) -> None:
        self.config = Config(root_dir=str(directory / "root"), run_dir=str(directory / "run"))
        for made in (self.config.root_dir, self.config.run_dir):
            Path(made).mkdir(exist_ok=True)
        self.plugins = directory / "root" / "device-plugins"
        self.capacity: Mapping[str, int] = {}
        self.allocatable: Mapping[str, int] = {}
        self.changed: list[str] = []
        self.news = asyncio.Event()

    def offer(self, capacity: Mapping[str, int], allocatable: Mapping[str, int]) -> None:
        self.capacity, self.allocatable = capacity, allocatable
        self.news.set()

    def on_change(self, uid: str) -> None:
        self.changed.append(uid)
        self.news.set()

    @contextlib.asynccontextmanager
    async def agent(self) -> AsyncIterator[DevicesOnDemand]:
        manager = DevicesOnDemand(self.config, self.offer)
        manager.changed = self.on_change
        task = asyncio.create_task(manager.run())
        try:
            async with asyncio.timeout(10):
                while not (self.plugins / "kubelet.sock").exists():  # noqa: ASYNC110  nobody tells of it
                    await asyncio.sleep(0)
            yield manager
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()

    async def has(self, capacity: int, allocatable: int, resource: str = R) -> None:
        await self.until(
            lambda: (self.capacity.get(resource), self.allocatable.get(resource)) == (capacity, allocatable)
        )

    def plugin(self, devices: Mapping[str, str] = TWO, resource: str = R, endpoint: str = "") -> FakePlugin:
        return FakePlugin(self.plugins, resource, dict(devices), endpoint)


@pytest.fixture
def world(short_path: Path) -> World:
    return World(short_path)


def container(name: str = "main", number: int = 1, resource: str = R, **fields: str) -> Container:
    limits = {resource: str(number), "cpu": "1"}
    return Container(name=name, resources=ResourceRequirements(limits=dict(limits)), **fields)  # type: ignore[arg-type]


def make_pod(uid: str, *containers: Container, init: tuple[Container, ...] = ()) -> Pod:
    spec = PodSpec(containers=list(containers or (container(),)), init_containers=list(init))
    return Pod(metadata=ObjectMeta(name=uid, namespace="ns", uid=uid), spec=spec)


async def test_a_plugin_registers_and_its_devices_are_the_nodes(world: World) -> None:
    async with world.agent() as manager, running(world.plugin()) as plugin:
        await world.has(2, 2)
        pod = make_pod("u", container(number=2))
        await manager.allocate(pod)
        assert plugin.allocated == [["d1", "d2"]]
        assert manager.taken("u") == {R: 2}
        assert manager.taken("v") == {}
        equipment = await manager.equip(pod, pod.spec.containers[0])  # type: ignore[index]
        assert equipment.env == {"DEVICES": "d1,d2"}
        # What is allocated is still the node's: that is for the scheduler to count.
        assert (world.capacity, world.allocatable) == ({R: 2}, {R: 2})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"version": "v1alpha1"},
            'requested API version "v1alpha1" is not supported by kubelet. Supported version is ["v1beta1"]',
        ),
        ({"resource_name": "widget"}, 'the ResourceName "widget" is invalid'),
        ({"resource_name": "kubernetes.io/widget"}, 'the ResourceName "kubernetes.io/widget" is invalid'),
        ({"resource_name": "example.com/a b"}, 'the ResourceName "example.com/a b" is invalid'),
        ({"resource_name": "Example.com/a"}, 'the ResourceName "Example.com/a" is invalid'),
        ({"resource_name": ""}, 'the ResourceName "" is invalid'),
        ({"endpoint": ""}, 'the Endpoint "" is no name of a plugin'),
        ({"endpoint": "../other.sock"}, 'the Endpoint "../other.sock" is no name of a plugin'),
        ({"endpoint": "kubelet.sock"}, 'the Endpoint "kubelet.sock" is no name of a plugin'),
    ],
)
async def test_what_cannot_be_a_plugin_is_told_why(world: World, changes: dict[str, str], text: str) -> None:
    plugin = world.plugin()
    async with world.agent():
        await plugin.start()
        with pytest.raises(RpcError) as failed:
            await plugin.register(**changes)
        assert failed.value.code == "Unknown"
        assert text in failed.value.details
        await plugin.stop()
    assert not world.capacity


async def test_a_resource_of_the_configuration_belongs_to_no_plugin(short_path: Path) -> None:
    world = World(short_path)
    world.config = Config(
        root_dir=world.config.root_dir, run_dir=world.config.run_dir, extended_resources={R: 5}
    )
    async with world.agent():
        with pytest.raises(RpcError, match="is given by the node's configuration"):
            async with running(world.plugin()):
                pass


async def test_a_plugin_that_does_not_listen_cannot_be_dialed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_module, "CONNECT_TIMEOUT", 0.2)
    async with world.agent():
        with pytest.raises(RpcError, match="failed to dial device plugin: context deadline exceeded"):
            await world.plugin().register()


async def test_a_plugin_whose_options_cannot_be_read_is_not_taken(world: World) -> None:
    plugin = world.plugin()
    plugin.raw[GET_OPTIONS.path] = b"\xff"
    async with world.agent():
        with pytest.raises(RpcError, match="failed to get device plugin options: rpc error: code = Internal"):
            async with running(plugin):
                pass


async def test_nonsense_in_the_stream_ends_a_plugin(world: World) -> None:
    async with world.agent(), running(world.plugin()) as plugin:
        await world.has(2, 2)
        plugin.raw[LIST_AND_WATCH.path] = b"\x0a\xff"
        await plugin.update({"d1": "Healthy"})
        await world.has(2, 0)


async def test_a_node_without_plugins_has_nothing_that_speaks_with_them(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from vkubelet.config import Config
from vkubelet.deviceplugins.on_demand import DevicesOnDemand

async def main(directory):
    for _ in range(2):
        config = Config(root_dir=directory, run_dir=directory)
        task = asyncio.create_task(DevicesOnDemand(config, print).run())
        while not (Path(directory) / "device-plugins" / "kubelet.sock").exists():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

asyncio.run(main(sys.argv[1]))
print(*sorted(name for name in sys.modules if "grpc" in name or "deviceplugins." in name))
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == (
        "vkubelet.deviceplugins.door vkubelet.deviceplugins.on_demand\n",
        "",
    )


async def test_bytes_that_are_no_registration_harm_nobody(world: World) -> None:
    async with world.agent():
        reader, writer = await asyncio.open_unix_connection(world.plugins / "kubelet.sock")
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
        async with running(world.plugin()):
            await world.has(2, 2)


async def test_gone_devices_are_nobodys_and_then_not_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.agent() as manager:
        async with running(world.plugin()):
            await world.has(2, 2)
            await manager.allocate(make_pod("u"))
        await world.has(2, 0)
        with pytest.raises(DeviceError, match=f"no healthy devices present; .* unhealthy devices {R}"):
            await manager.allocate(make_pod("v"))
        assert manager.taken("u") == {R: 1}
        async with running(world.plugin()):
            await world.has(2, 2)
        monkeypatch.setattr(pool_module, "GRACE", 0.0)
        await world.has(0, 0)
        with pytest.raises(DeviceError, match=f"cannot allocate unregistered device {R}"):
            await manager.allocate(make_pod("v"))


async def test_health_is_told_and_unhealthy_devices_are_given_to_nobody(world: World) -> None:
    async with world.agent() as manager, running(world.plugin()) as plugin:
        await world.has(2, 2)
        pod = make_pod("u")
        await manager.allocate(pod)
        await plugin.update({"d1": "Unhealthy", "d2": "Healthy"})
        await world.has(2, 1)
        assert world.changed == ["u"]
        (status,) = manager.health("u")["main"]
        assert (status.name, [(one.resource_id, one.health) for one in status.resources]) == (
            R,
            [("d1", "Unhealthy")],
        )
        with pytest.raises(DeviceError, match=f"unavailable for {R}. Requested: 2, Available: 1"):
            await manager.allocate(make_pod("v", container(number=2)))
        with pytest.raises(DeviceError, match="previously allocated devices are no longer healthy"):
            await manager.allocate(pod)
        await plugin.update({"d1": "who knows", "d2": "Healthy"})
        await plugin.update(TWO)
        await world.has(2, 2)
        assert manager.health("u") == {}
        assert manager.health("nobody") == {}


async def test_pods_that_want_the_last_device_at_once_do_not_both_get_it(world: World) -> None:
    async with world.agent() as manager, running(world.plugin()) as plugin:
        await world.has(2, 2)
        gate = asyncio.Event()
        plugin.before_allocate = gate.wait
        pods = [make_pod(f"u{number}") for number in range(4)]
        asked = [asyncio.create_task(manager.allocate(pod)) for pod in pods]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        gate.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
        refused = [result for result in results if result is not None]
        assert [str(error) for error in refused] == [
            f"requested number of devices unavailable for {R}. Requested: 1, Available: 0"
        ] * 2
        assert sorted(plugin.allocated) == [["d1"], ["d2"]]
        # The ones that have some let go of them, and others get these.
        for number in range(4):
            manager.release(f"u{number}")
        await manager.allocate(make_pod("w", container(number=2)))


async def test_the_plugin_is_asked_which_it_prefers(world: World) -> None:
    plugin = world.plugin({"a": "Healthy", "b": "Healthy", "c": "Unhealthy", "d": "Healthy"})
    plugin.options = DevicePluginOptions(get_preferred_allocation_available=True)
    plugin.preferred = ["c", "stranger", "d", "d"]
    async with world.agent() as manager, running(plugin):
        await world.has(4, 3)
        await manager.allocate(make_pod("u", container(number=2)))
        assert plugin.allocated == [["d", "a"]]
        (request,) = plugin.preferring[0].container_requests
        assert (request.available, request.must_include, request.allocation_size) == (["a", "b", "d"], [], 2)


async def test_what_init_containers_had_goes_to_those_that_follow(world: World) -> None:
    devices = dict.fromkeys("abcd", "Healthy")
    async with world.agent() as manager, running(world.plugin(devices)) as plugin:
        await world.has(4, 4)
        pod = make_pod(
            "u",
            container("one", 1),
            container("two", 1),
            init=(
                container("first", 3),
                container("sidecar", 1, restart_policy="Always"),
                container("second", 2),
            ),
        )
        await manager.allocate(pod)
        assert plugin.allocated == [["a", "b", "c"], ["a"], ["b", "c"], ["b"], ["c"]]
        await manager.allocate(make_pod("v"))
        assert plugin.allocated[-1] == ["d"]


async def test_a_refusal_gives_back_all_of_the_pod(world: World) -> None:
    def answer(devices: list[str]) -> ContainerAllocateResponse:
        if devices == ["d2"]:
            raise ValueError("no such luck")
        return ContainerAllocateResponse()

    async with world.agent() as manager, running(world.plugin()) as plugin:
        await world.has(2, 2)
        plugin.answer = answer
        with pytest.raises(DeviceError, match=r"^rpc error: code = Unknown desc = no such luck$"):
            await manager.allocate(make_pod("u", container("one"), container("two")))
        plugin.raw[ALLOCATE.path] = b""
        with pytest.raises(DeviceError, match="no containers return in allocation response"):
            await manager.allocate(make_pod("u"))
        plugin.raw.clear()
        await manager.allocate(make_pod("v"))
        assert plugin.allocated[-1] == ["d1"]


async def test_a_plugin_that_hangs_costs_others_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_module, "ALLOCATE_TIMEOUT", 0.5)
    other = "example.com/other"
    async with (
        world.agent() as manager,
        running(world.plugin()) as plugin,
        running(world.plugin({"x": "Healthy"}, other)),
    ):
        await world.has(2, 2)
        await world.has(1, 1, other)
        plugin.before_allocate = asyncio.Event().wait
        hanging = asyncio.create_task(manager.allocate(make_pod("u")))
        await manager.allocate(make_pod("v", container(resource=other)))
        assert not hanging.done()
        with pytest.raises(DeviceError, match="code = DeadlineExceeded desc = context deadline exceeded"):
            await hanging
        plugin.before_allocate = lambda: None
        await manager.allocate(make_pod("w", container(number=2)))


async def test_a_plugin_that_dies_while_it_is_asked_fails_the_pod(world: World) -> None:
    async with world.agent() as manager, running(world.plugin()) as plugin:
        await world.has(2, 2)
        asked = asyncio.Event()

        async def hang() -> None:
            asked.set()
            await asyncio.Event().wait()

        plugin.before_allocate = hang
        admission = asyncio.create_task(manager.allocate(make_pod("u")))
        await asked.wait()
        await plugin.stop()
        with pytest.raises(DeviceError, match="rpc error: code = "):
            await admission
        await world.has(2, 0)
        assert manager.taken("u") == {}


async def test_a_plugin_that_starts_anew_replaces_itself(world: World) -> None:
    async with world.agent() as manager, running(world.plugin(endpoint="one.sock")) as old:
        await world.has(2, 2)
        await old.register()
        await world.has(2, 2)
        async with running(world.plugin({"d9": "Healthy"}, endpoint="two.sock")) as new:
            await world.has(1, 1)
            await old.stop()
            await manager.allocate(make_pod("u"))
            assert new.allocated == [["d9"]]
            assert (world.capacity, world.allocatable) == ({R: 1}, {R: 1})


async def test_a_plugin_may_be_told_of_each_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_module, "PRE_START_TIMEOUT", 0.3)
    plugin = world.plugin()
    plugin.options = DevicePluginOptions(pre_start_required=True)
    async with world.agent() as manager, running(plugin):
        await world.has(2, 2)
        pod, asking = make_pod("u"), container()
        with pytest.raises(DeviceError, match=f"for pod u, container main, resource {R}"):
            await manager.equip(pod, asking)
        await manager.allocate(pod)
        await manager.equip(pod, asking)
        await manager.equip(pod, asking)
        assert plugin.started == [["d1"], ["d1"]]
        plugin.before_start = asyncio.Event().wait
        with pytest.raises(DeviceError, match="PreStartContainer rpc failed with err: rpc error: code = Dea"):
            await manager.equip(pod, asking)


async def test_a_start_without_an_allocation_is_given_one(world: World) -> None:
    """As when a pod ran before its resource had a plugin."""
    async with world.agent() as manager, running(world.plugin()) as plugin:
        await world.has(2, 2)
        equipment = await manager.equip(make_pod("u"), container())
        assert equipment.env == {"DEVICES": "d1"}
        assert plugin.allocated == [["d1"]]


async def test_pods_that_ask_for_no_devices_ask_no_plugin(world: World) -> None:
    async with world.agent() as manager, running(world.plugin()) as plugin:
        await world.has(2, 2)
        for limits in ({}, {"cpu": "1"}, {R: "0"}, {"example.com/of-the-cluster": "1"}):
            asking = Container(name="main", resources=ResourceRequirements(limits=dict(limits)))
            await manager.allocate(make_pod("u", asking))
            assert (await manager.equip(make_pod("u", asking), asking)).env == {}
        assert plugin.allocated == []


async def test_a_request_that_changed_is_refused(world: World) -> None:
    async with world.agent() as manager, running(world.plugin()):
        await world.has(2, 2)
        await manager.allocate(make_pod("u"))
        with pytest.raises(DeviceError, match=f'changed request for resource "{R}" from 1 to 2'):
            await manager.allocate(make_pod("u", container(number=2)))


async def test_an_agent_knows_what_the_one_before_gave(world: World) -> None:
    async with world.agent() as manager, running(world.plugin()):
        await world.has(2, 2)
        await manager.allocate(make_pod("u"))
        await manager.allocate(make_pod("gone"))
    async with world.agent() as manager:
        # Nobody is sent here before the plugin is back; what runs may be started again.
        assert (world.capacity, world.allocatable) == ({R: 0}, {R: 0})
        assert (await manager.equip(make_pod("u"), container())).env == {"DEVICES": "d1"}
        assert manager.taken("u") == {R: 2}
        async with running(world.plugin()):
            await world.has(2, 2)
            with pytest.raises(DeviceError, match="Available: 0"):
                await manager.allocate(make_pod("v"))
            manager.keep_only(["u", "v"])
            await manager.allocate(make_pod("v"))
            assert (await manager.equip(make_pod("v"), container())).env == {"DEVICES": "d2"}


async def test_a_node_is_new_until_an_agent_ran_on_it(world: World) -> None:
    for is_new in (True, False):
        async with world.agent() as manager:
            assert manager.is_new is is_new


async def test_a_checkpoint_that_cannot_be_read_stops_nobody(world: World) -> None:
    (Path(world.config.root_dir) / CHECKPOINT).write_text("{")
    async with world.agent() as manager, running(world.plugin()):
        await world.has(2, 2)
        await manager.allocate(make_pod("u"))
        assert (Path(world.config.root_dir) / f"{CHECKPOINT}.corrupt").exists()


async def test_when_nothing_else_is_known_the_pods_status_tells_what_it_has(world: World) -> None:
    pod = make_pod("u")
    async with world.agent() as manager, running(world.plugin()):
        await world.has(2, 2)
        await manager.allocate(pod)
        status = ContainerStatus(name="main", allocated_resources_status=manager.health("u")["main"])
    (Path(world.config.root_dir) / CHECKPOINT).unlink()
    claim = ResourceStatus(name="claim:other", resources=[])
    assert status.allocated_resources_status
    status.allocated_resources_status = [*status.allocated_resources_status, claim]
    pod.status.container_statuses = [status, ContainerStatus(name="other")]
    async with world.agent() as manager:
        manager.adopt(pod)
        with pytest.raises(DeviceError, match=f"for a registered resource: {R}"):
            await manager.equip(pod, container())
        async with running(world.plugin()) as plugin:
            await world.has(2, 2)
            with pytest.raises(DeviceError, match="Available: 1"):
                await manager.allocate(make_pod("v", container(number=2)))
            await manager.allocate(make_pod("v"))
            assert (await manager.equip(pod, container())).env == {"DEVICES": "d1"}
            assert (await manager.equip(pod, container())).env == {"DEVICES": "d1"}
            assert plugin.allocated == [["d2"], ["d1"]]
            manager.adopt(pod)
            assert manager.taken("u") == {R: 2}


async def test_a_device_that_cannot_be_written_down_is_not_given(world: World) -> None:
    async with world.agent() as manager, running(world.plugin()) as plugin:
        await world.has(2, 2)
        fresh = Path(world.config.root_dir) / f".{CHECKPOINT}"
        fresh.mkdir()
        with pytest.raises(DeviceError, match="failed to write checkpoint file"):
            await manager.allocate(make_pod("u"))
        fresh.rmdir()
        await manager.allocate(make_pod("u"))
        assert plugin.allocated == [["d1"], ["d1"]]


async def test_sockets_of_before_are_removed_and_nothing_else(world: World) -> None:
    world.plugins.mkdir()
    (world.plugins / "file").touch()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(world.plugins / "stale.sock"))
    os.mkfifo(world.plugins / "pipe")
    async with world.agent():
        assert {path.name for path in world.plugins.iterdir()} == {"file", "kubelet.sock", "pipe"}
    assert {path.name for path in world.plugins.iterdir()} == {"file", "pipe"}


async def test_the_sockets_of_another_kubelets_plugins_are_left_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.agent(), running(world.plugin()):
        await world.has(2, 2)
        other = DevicesOnDemand(world.config, lambda capacity, allocatable: None)
        task = asyncio.create_task(other.run())
        async with asyncio.timeout(10):
            while "another kubelet listens there" not in caplog.text:  # noqa: ASYNC110  nobody tells of it
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (world.plugins / "kubelet.sock").exists()
        assert len(list(world.plugins.iterdir())) == 2


async def test_a_node_whose_directory_cannot_be_made_runs_without_plugins(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.plugins.write_text("in the way")
    manager = DevicesOnDemand(world.config, world.offer)
    task = asyncio.create_task(manager.run())
    async with asyncio.timeout(10):
        while "no device plugin can register" not in caplog.text:  # noqa: ASYNC110  nobody tells of it
            await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cdi_devices_keep_the_container_waiting(world: World) -> None:
    async with world.agent() as manager, running(world.plugin()) as plugin:
        await world.has(2, 2)
        plugin.answer = lambda devices: ContainerAllocateResponse(cdi_devices=[CDIDevice(name="v.com/d=1")])
        pod = make_pod("u")
        await manager.allocate(pod)
        with pytest.raises(DeviceError, match="CDI device"):
            await manager.equip(pod, container())
