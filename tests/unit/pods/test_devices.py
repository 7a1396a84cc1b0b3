"""Pods that ask for devices: when they are given, what their containers get, and what is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
from fake_node import Setting, pods_of_a_node

from providers.base import Preopen
from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod, ResourceHealth, ResourceStatus
from vkubelet.pods.allocation_files import AllocationFiles
from vkubelet.pods.allocations import Allocations
from vkubelet.pods.devices import NO_EQUIPMENT, DeviceError, Equipment, NoDevices
from vkubelet.pods.fit import NodeView
from vkubelet.pods.observed import Rejection

R = "example.com/widget"


class Devices:
    """Devices that a test gives, and takes away."""

    def __init__(self) -> None:
        self.refusal: DeviceError | None = None
        self.equipment = NO_EQUIPMENT
        self.fault: DeviceError | None = None
        self.health_of: dict[str, list[ResourceStatus]] = {}
        self.calls: list[str] = []
        self.number = 0

    async def allocate(self, pod: Pod) -> None:
        self.calls.append(f"allocate {pod.metadata.uid}")
        if self.refusal is not None:
            raise self.refusal
        self.number += 1

    def adopt(self, pod: Pod) -> None:
        self.calls.append(f"adopt {pod.metadata.uid}")

    def taken(self, uid: str) -> Mapping[str, int]:
        return {R: self.number} if self.number else {}

    def release(self, uid: str) -> None:
        self.calls.append(f"release {uid}")
        self.number = 0

    def keep_only(self, uids: Collection[str]) -> None:
        self.calls.append(f"keep {sorted(uids)}")

    async def equip(self, pod: Pod, container: Container) -> Equipment:
        if self.fault is not None:
            raise self.fault
        return self.equipment

    def health(self, uid: str) -> Mapping[str, list[ResourceStatus]]:
        return self.health_of


class Node:
    """A node that has lost its widgets."""

    allocatable: Mapping[str, int] = {"cpu": 1000, "memory": 1 << 30, "pods": 10, R: 0}

    def view(self) -> NodeView:
        return NodeView("here", {}, (), self.allocatable, 1 << 30)

    async def refresh(self) -> NodeView:
        return self.view()


def pod(cpu: str = "0", **metadata: Any) -> Pod:
    limits = {R: "1", "cpu": cpu}
    container = {"name": "a", "image": "img", "resources": {"limits": limits, "requests": limits}}
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", **metadata},
        "spec": {"containers": [container], "restartPolicy": "Always"},
    }
    return msgspec.convert(document, Pod)


def allocations(
    directory: Path, devices: Devices | NoDevices, refuse: Rejection | None = None
) -> Allocations:
    nobody: Any = None
    return Allocations(AllocationFiles(directory), Node(), nobody, lambda _: refuse, nobody, devices)


async def test_devices_are_chosen_before_all_else_and_what_is_held_fits(tmp_path: Path) -> None:
    devices = Devices()
    taken = allocations(tmp_path, devices).pod(pod(), lambda: None)
    assert await taken.admit() is None
    taken.release()
    assert devices.calls == ["allocate u", "adopt u", "release u"]


async def test_a_pod_that_gets_no_device_is_refused_in_the_kubelets_words(tmp_path: Path) -> None:
    devices = Devices()
    devices.refusal = DeviceError("no healthy devices present")
    rejection = await allocations(tmp_path, devices).pod(pod(cpu="64"), lambda: None).admit()
    text = "Allocate failed due to no healthy devices present, which is unexpected"
    assert rejection == Rejection("UnexpectedAdmissionError", text)


async def test_a_pod_that_does_not_fit_gives_its_devices_back(tmp_path: Path) -> None:
    devices = Devices()
    rejection = await allocations(tmp_path, devices).pod(pod(cpu="64"), lambda: None).admit()
    assert rejection is not None
    assert rejection.reason == "OutOfcpu"
    assert devices.calls == ["allocate u", "release u"]


async def test_a_resource_that_no_plugin_has_any_more_is_out(tmp_path: Path) -> None:
    rejection = await allocations(tmp_path, NoDevices()).pod(pod(), lambda: None).admit()
    text = f"Node didn't have enough resource: {R}, requested: 1, used: 0, capacity: 0"
    assert rejection == Rejection(f"OutOf{R}", text)


async def test_a_node_that_takes_nobody_asks_no_plugin(tmp_path: Path) -> None:
    devices, refusal = Devices(), Rejection("Evicted", "The node had condition: [MemoryPressure]. ")
    assert await allocations(tmp_path, devices, refusal).pod(pod(), lambda: None).admit() == refusal
    assert devices.calls == []


async def test_what_is_of_pods_that_are_gone_is_given_back(tmp_path: Path) -> None:
    devices = Devices()
    allocations(tmp_path, devices).keep_only({"u"})
    assert devices.calls == ["keep ['u']"]


async def test_equipment_and_health_reach_the_guest_and_the_status(tmp_path: Path) -> None:
    devices = Devices()
    devices.equipment = Equipment({"DEVICE": "7"}, (Preopen(tmp_path, "/dev/widgets"),))
    devices.health_of = {"a": [_status("Healthy")]}
    async with pods_of_a_node(tmp_path, devices=devices) as setting:
        setting.manager.on_change(pod())
        await setting.told.until(lambda: setting.phase() == "Running")
        (spec,) = setting.provider.started
        assert ("DEVICE", "7") in spec.env
        assert Preopen(tmp_path, "/dev/widgets") in spec.preopens
        (shown,) = setting.told.statuses["u"].container_statuses or ()
        assert shown.allocated_resources_status == [_status("Healthy")]
        devices.health_of = {"a": [_status("Unhealthy")]}
        setting.allocations.wake("u")
        setting.allocations.wake("nobody")
        told = [{"name": R, "resources": [{"resourceID": "7", "health": "Unhealthy"}]}]
        await setting.told.until(lambda: _told_of_resources(setting) == told)
        devices.health_of = {}
        setting.manager.on_change(pod(deletionTimestamp="2026-01-01T00:00:00Z"))
        await setting.told.until(lambda: setting.told.finished)
        assert "release u" in devices.calls
        # The last status tells what it had.
        (shown,) = setting.told.statuses["u"].container_statuses or ()
        assert shown.allocated_resources_status == [_status("Unhealthy")]


async def test_a_container_waits_for_devices_that_cannot_be_had(tmp_path: Path) -> None:
    devices = Devices()
    devices.fault = DeviceError("device /dev/widget is a character device")
    async with pods_of_a_node(tmp_path, devices=devices) as setting:
        setting.manager.on_change(pod())
        await setting.told.until(lambda: setting.told.waiting() == "CreateContainerConfigError")
        assert ("Failed", "Error: device /dev/widget is a character device") in setting.told.events
        assert setting.provider.started == []


async def test_a_pod_whose_plugin_hangs_keeps_no_other_waiting(tmp_path: Path) -> None:
    class Hanging(Devices):
        async def allocate(self, pod: Pod) -> None:
            if pod.metadata.uid == "u":
                await asyncio.Event().wait()

    async with pods_of_a_node(tmp_path, devices=Hanging()) as setting:
        setting.manager.on_change(pod())
        setting.manager.on_change(pod(uid="v", name="q"))
        await setting.told.until(lambda: setting.phase("v") == "Running")
        assert setting.phase() == ""


def _told_of_resources(setting: Setting) -> Any:
    (shown,) = setting.told.statuses["u"].container_statuses or ()
    return msgspec.to_builtins(shown)["allocatedResourcesStatus"]


def _status(health: str) -> ResourceStatus:
    return ResourceStatus(name=R, resources=[ResourceHealth(resource_id="7", health=health)])
