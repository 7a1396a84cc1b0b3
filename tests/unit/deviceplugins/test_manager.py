"""The node's devices over real sockets: plugins that lie, hang and die, and pods that want the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from device_plugin import running
from device_world import TWO, R, World, container, make_pod

from vkubelet.api.containers import Container, ResourceRequirements
from vkubelet.api.objects import ContainerStatus, ResourceStatus
from vkubelet.deviceplugins import plugin as plugin_module
from vkubelet.deviceplugins import pool as pool_module
from vkubelet.deviceplugins.messages import (
    ALLOCATE,
    LIST_AND_WATCH,
    CDIDevice,
    ContainerAllocateResponse,
    DevicePluginOptions,
)
from vkubelet.deviceplugins.on_demand import CHECKPOINT
from vkubelet.pods.devices import DeviceError


async def test_nonsense_in_the_stream_ends_a_plugin(world: World) -> None:
    async with world.agent(), running(world.plugin()) as plugin:
        await world.has(2, 2)
        plugin.raw[LIST_AND_WATCH.path] = b"\x0a\xff"
        await plugin.update({"d1": "Healthy"})
        await world.has(2, 0)


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
            monkeypatch.setattr(pool_module, "GRACE", 0.0)  # it counts from when the end is noticed
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


async def test_cdi_devices_keep_the_container_waiting(world: World) -> None:
    async with world.agent() as manager, running(world.plugin()) as plugin:
        await world.has(2, 2)
        plugin.answer = lambda devices: ContainerAllocateResponse(cdi_devices=[CDIDevice(name="v.com/d=1")])
        pod = make_pod("u")
        await manager.allocate(pod)
        with pytest.raises(DeviceError, match="CDI device"):
            await manager.equip(pod, container())
