"""A node's device manager, as one agent after another has it, and pods that want its devices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from device_plugin import FakePlugin

from vkubelet.api.containers import Container, ResourceRequirements
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.config import Config
from vkubelet.deviceplugins.on_demand import DevicesOnDemand

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


def container(name: str = "main", number: int = 1, resource: str = R, **fields: str) -> Container:
    limits = {resource: str(number), "cpu": "1"}
    return Container(name=name, resources=ResourceRequirements(limits=dict(limits)), **fields)  # type: ignore[arg-type]


def make_pod(uid: str, *containers: Container, init: tuple[Container, ...] = ()) -> Pod:
    spec = PodSpec(containers=list(containers or (container(),)), init_containers=list(init))
    return Pod(metadata=ObjectMeta(name=uid, namespace="ns", uid=uid), spec=spec)
