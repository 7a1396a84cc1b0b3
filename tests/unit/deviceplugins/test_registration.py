"""How plugins come to a node over real sockets: who is taken for one, and where they register."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from device_plugin import running
from device_world import R, World, container, make_pod

from vkubelet.config import Config
from vkubelet.deviceplugins import plugin as plugin_module
from vkubelet.deviceplugins.messages import GET_OPTIONS
from vkubelet.deviceplugins.on_demand import DevicesOnDemand
from vkubelet.rpc.client import RpcError


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


async def test_bytes_that_are_no_registration_harm_nobody(world: World) -> None:
    async with world.agent():
        reader, writer = await asyncio.open_unix_connection(world.plugins / "kubelet.sock")
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
        async with running(world.plugin()):
            await world.has(2, 2)


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
