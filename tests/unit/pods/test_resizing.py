"""How a resize is carried out: in which order, and what stops it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from providers.base import Group, ProviderError
from vkubelet.api.containers import Container, ResourceRequirements
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.pods.allocation_files import AllocationFiles
from vkubelet.pods.allocations import Allocations
from vkubelet.pods.devices import NoDevices
from vkubelet.pods.pod_allocation import PodAllocation
from vkubelet.pods.resizing import Resizing

from .test_allocations import Events, Node

MIB = 1 << 20


def make_pod(memory: str, whole: str, generation: int, cpu: str = "100m") -> Pod:
    limits = {"memory": memory, "cpu": cpu}
    resources = ResourceRequirements(limits=dict(limits), requests=dict(limits))
    of_all = ResourceRequirements(limits={"memory": whole}, requests={"memory": whole})
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u", generation=generation),
        spec=PodSpec(
            containers=[Container(name=name, resources=resources) for name in ("a", "b")], resources=of_all
        ),
    )


class Provider:
    """Notes what it is told, in the order in which it is."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.used = MIB
        self.refused: str | None = None

    async def update(self, container_id: str, **limits: Any) -> None:
        if self.refused == container_id:
            raise ProviderError("not now")
        self.told.append((container_id, limits["memory_limit"] // MIB))

    async def update_group(self, group: Group) -> None:
        assert group.memory_limit is not None
        self.told.append((group.name, group.memory_limit // MIB))

    async def usage(self, identifiers: Any) -> dict[str, Any]:
        return {identifier: SimpleNamespace(memory=self.used) for identifier in identifiers}


class Containers:
    """Two that run."""

    def __init__(self, names: tuple[str, ...] = ("a", "b")) -> None:
        self._running = {
            name: SimpleNamespace(state=SimpleNamespace(id=f"id-{name}"), spec=SimpleNamespace(name=name))
            for name in names
        }
        self.views = {name: SimpleNamespace(running=True, starting=False) for name in names}

    def running(self, name: str) -> Any:
        return self._running.get(name)

    def all_running(self) -> list[Any]:
        return list(self._running.values())


class World:
    def __init__(self, directory: Path, *running: str) -> None:
        self.provider = Provider()
        self.news = asyncio.Event()
        allocations = Allocations(
            AllocationFiles(directory), Node(), Events(), lambda _: None, cast("Any", None), NoDevices()
        )
        allocations.keep_only(())
        self.allocation: PodAllocation = allocations.pod(make_pod("40Mi", "100Mi", 1), lambda: None)
        self.allocation.hold()
        self.resizing = Resizing(
            cast("Any", self.provider),
            cast("Any", Containers(running or ("a", "b"))),
            self.allocation,
            self.news.set,
            None,
        )

    async def resize(self, memory: str, whole: str, cpu: str = "100m") -> float | None:
        """To the end of what is carried out; when it is to be tried again."""
        self.allocation.update(make_pod(memory, whole, 2, cpu))
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            self.resizing.turn(group)
        async with asyncio.TaskGroup() as group:
            return self.resizing.turn(group)[1]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def in_progress(world: World) -> tuple[str, str] | None:
    conditions = world.allocation.view().conditions
    return (conditions[0].reason, conditions[0].message) if conditions else None


async def test_what_is_shared_grows_first(world: World) -> None:
    assert await world.resize("60Mi", "150Mi") is None
    assert world.provider.told == [("podu", 150), ("id-a", 60), ("id-b", 60), ("podu", 150)]
    assert in_progress(world) is None


async def test_and_shrinks_last(world: World) -> None:
    assert await world.resize("30Mi", "80Mi") is None
    assert world.provider.told == [("podu", 100), ("id-a", 30), ("id-b", 30), ("podu", 80)]


async def test_the_whole_alone_may_change(world: World) -> None:
    assert await world.resize("40Mi", "90Mi") is None
    assert world.provider.told == [("podu", 100), ("podu", 90)]
    assert in_progress(world) is None


async def test_the_whole_is_not_lowered_below_usage(world: World) -> None:
    world.provider.used = 45 * MIB
    assert await world.resize("40Mi", "90Mi") is not None
    assert in_progress(world) == (
        "Error",
        "cannot decrease memory limits: attempting to set pod memory limit (94371840) below current usage "
        "(94371840)",
    )
    assert world.provider.told == []


async def test_both_are_told_of(world: World) -> None:
    world.provider.used = 45 * MIB
    await world.resize("30Mi", "90Mi")
    told = in_progress(world)
    assert told is not None
    assert told[1].startswith(
        "cannot decrease memory limits: [attempting to set pod memory limit (94371840) below current usage "
        '(94371840), attempting to set container "a" memory limit (31457280) below current usage (47185920), '
    )


async def test_it_stops_where_the_provider_refuses(world: World) -> None:
    world.provider.refused = "id-b"
    assert await world.resize("30Mi", "80Mi") is not None
    assert world.provider.told == [("podu", 100), ("id-a", 30)]
    assert in_progress(world) == ("Error", "not now")
    assert world.allocation.sharing() is not None, "it is tried again"


async def test_where_nothing_runs_there_is_nothing_to_update(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    assert await world.resize("60Mi", "150Mi") is None
    assert world.provider.told == [("podu", 150), ("id-a", 60), ("podu", 150)]
