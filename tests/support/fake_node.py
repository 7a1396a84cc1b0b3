"""A node's pods on a provider that fails, ends and hangs on demand: what a real one cannot be told to do."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from oci.credentials import Credentials
from oci.errors import NotFoundError
from oci.images import Image, ImageConfig
from oci.reference import Reference
from providers.base import (
    Artifact,
    Capabilities,
    ContainerSpec,
    ContainerState,
    DamagedModuleError,
    Exit,
    ExitListener,
    ExitReason,
    Group,
    ModuleKind,
    Streams,
)
from vkubelet.api.containers import Container, LifecycleHandler
from vkubelet.api.objects import ObjectReference, Pod, PodStatus
from vkubelet.api.references import NoReferences
from vkubelet.config import Config
from vkubelet.pods.allocation_files import AllocationFiles
from vkubelet.pods.allocations import Allocations
from vkubelet.pods.builtin import BuiltinImages
from vkubelet.pods.devices import Devices, NoDevices
from vkubelet.pods.fit import NodeView
from vkubelet.pods.images.pull_secrets import PullSecrets
from vkubelet.pods.images.source import ImageSource, PullLimit
from vkubelet.pods.manager import PodManager
from vkubelet.pods.probes.state import ProbeKind
from vkubelet.pods.running import RunningContainer
from vkubelet.pods.services import Services
from vkubelet.pods.sources import Environments
from vkubelet.pods.starter import Starter
from vkubelet.pods.volumes.manager import VolumeManager
from vkubelet.toolbox import Toolbox


class Provider:
    """Containers that exist as values only; `before_start` may fail or wait."""

    def __init__(self) -> None:
        self.on_exit: ExitListener = lambda state: None
        self.asked: list[ContainerSpec] = []
        self.started: list[ContainerSpec] = []
        self.ran: list[ContainerSpec] = []
        self.prepared: list[tuple[Path, str]] = []
        self.is_damaged = False
        self.roots = Path("/roots")
        self.states: dict[str, ContainerState] = {}
        self.before_start: Callable[[ContainerSpec], Any] = lambda spec: None
        self.ends_at_once: int | None = None
        self.removed = asyncio.Event()
        self.graces: dict[str, float] = {}
        self.groups: list[Group] = []

    async def open(self, on_exit: ExitListener) -> list[ContainerState]:
        self.on_exit = on_exit
        return list(self.states.values())

    async def close(self) -> None:
        self.states.clear()

    async def prepare(self, module: Path, digest: str) -> Artifact:
        self.prepared.append((module, digest))
        if self.is_damaged:
            raise DamagedModuleError("it is damaged")
        return Artifact(module, ModuleKind.MODULE)

    async def start(self, spec: ContainerSpec, go: asyncio.Event | None = None) -> ContainerState:
        self.asked.append(spec)
        if go is not None:
            await go.wait()
        waited = self.before_start(spec)
        if waited is not None:
            await waited
        self.started.append(spec)
        state = ContainerState(spec.id, spec.labels, spec.log_path, 1, time.time_ns())
        self.states[spec.id] = state
        if self.ends_at_once is not None:
            self.end(spec.id, self.ends_at_once)
        return state

    def end(self, identifier: str, code: int) -> None:
        state = self.states[identifier]
        if state.exit is None:
            reason = ExitReason.COMPLETED if code == 0 else ExitReason.ERROR
            end = Exit(code, reason, "", state.started_at, time.time_ns())
            self.states[identifier] = dataclasses.replace(state, exit=end)
            self.on_exit(self.states[identifier])

    def spec(self, container_id: str) -> ContainerSpec:
        return next(spec for spec in self.started if spec.id == container_id)

    def root(self, container_id: str) -> Path:
        return self.roots / container_id

    async def run(
        self, spec: ContainerSpec, streams: Streams, on_start: Callable[[int], None] | None = None
    ) -> Exit:
        self.ran.append(spec)
        if on_start is not None:
            on_start(2)
        return Exit(0, ExitReason.COMPLETED, "", 1, 2)

    async def discard(self, digest: str) -> None:
        pass

    async def update_group(self, group: Group) -> None:
        self.groups.append(group)

    def capabilities(self) -> Capabilities:
        return Capabilities(
            identities=True, memory=True, cpu_limit=True, cpu_request=True, processes=True, missing=""
        )

    async def kill(self, container_id: str) -> None:
        asyncio.get_running_loop().call_soon(self.end, container_id, 137)

    async def stop(self, container_id: str, grace_seconds: float) -> None:
        self.graces[container_id] = grace_seconds
        asyncio.get_running_loop().call_soon(self.end, container_id, 137)

    async def remove(self, container_id: str) -> None:
        self.states.pop(container_id, None)
        self.removed.set()


class Images:
    """One image that is there, and none else."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    async def look(self, reference: Reference) -> Image | None:
        if reference.repository.endswith("missing"):
            return None
        nothing = ImageConfig()
        return Image(reference, "sha256:1", Path("/module"), "sha256:2", 5, (), nothing)

    async def accepts(self, image: Image) -> bool:
        return True

    async def set_aside_damaged(self, image: Image) -> None:
        self.provider.is_damaged = False

    def is_pulling(self, reference: Reference, credentials: Credentials | None, *, ask: bool) -> bool:
        return False

    async def pull(
        self, reference: Reference, *, credentials: Credentials | None = None, ask: bool = False
    ) -> Image:
        raise NotFoundError(reference, "not found")


@dataclasses.dataclass
class Told:
    """What the API server would have been told."""

    statuses: dict[str, PodStatus] = dataclasses.field(default_factory=dict)
    reports: list[str] = dataclasses.field(default_factory=list)
    finished: list[str] = dataclasses.field(default_factory=list)
    events: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    news: asyncio.Condition = dataclasses.field(default_factory=asyncio.Condition)
    changes: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def report(self, pod: Pod, status: PodStatus) -> None:
        self.statuses[pod.metadata.uid] = status
        self.reports.append(status.phase)
        self.changes.set()

    async def finish(self, pod: Pod, status: PodStatus | None) -> None:
        if status is not None:
            self.statuses[pod.metadata.uid] = status
        self.finished.append(pod.metadata.uid)
        self.changes.set()

    def forget(self, uid: str) -> None:
        self.changes.set()

    def event(self, ref: ObjectReference, kind: str, reason: str, message: str) -> None:
        self.events.append((reason, message))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changes.clear()
                await self.changes.wait()

    def waiting(self, uid: str = "u") -> str:
        containers = self.statuses[uid].container_statuses if uid in self.statuses else None
        state = containers[0].state.waiting if containers else None
        return state.reason if state is not None else ""


class Watched:
    """Probes whose results the test gives, and hooks that end as it says."""

    def __init__(self) -> None:
        self.probed: dict[str, Callable[[ProbeKind, bool], None]] = {}
        self.terminated: set[str] = set()
        self.forgotten: set[str] = set()
        self.hook: Callable[[LifecycleHandler, RunningContainer], Any] = lambda handler, running: None

    def start(
        self,
        pod: Pod,
        container: Container,
        running: RunningContainer,
        on_result: Callable[[ProbeKind, bool], None],
    ) -> None:
        self.probed[running.state.id] = on_result

    def terminate(self, container_id: str) -> None:
        self.terminated.add(container_id)

    def stop(self, container_id: str) -> None:
        self.probed.pop(container_id, None)

    def forget(self, uid: str) -> None:
        self.forgotten.add(uid)

    async def run(
        self, pod: Pod, container: Container, running: RunningContainer, handler: LifecycleHandler
    ) -> None:
        waited = self.hook(handler, running)
        if waited is not None:
            await waited


@dataclasses.dataclass
class Setting:
    provider: Provider
    told: Told
    manager: PodManager
    watched: Watched
    allocations: Allocations

    def phase(self, uid: str = "u") -> str:
        return self.told.statuses[uid].phase if uid in self.told.statuses else ""


class RoomyNode:
    """A node that any pod fits on."""

    def view(self) -> NodeView:
        return NodeView("", {}, (), {"cpu": 10**6, "memory": 1 << 50, "pods": 10**6}, 1 << 50)

    async def refresh(self) -> NodeView:
        return self.view()

    def use_volumes(self, names: frozenset[str]) -> None:
        pass

    async def attached(self, name: str) -> None:
        pass


@asynccontextmanager
async def pods_of_a_node(
    directory: Path, toolbox: Toolbox | None = None, devices: Devices | None = None
) -> AsyncIterator[Setting]:
    provider, told = Provider(), Told()
    provider.roots = directory / "roots"
    config = Config(
        root_dir=str(directory / "root"), pod_logs_dir=str(directory), run_dir=str(directory / "run")
    )
    recorder, reporter = cast("Any", told), cast("Any", told)
    builtin = BuiltinImages(toolbox or Toolbox(enabled=False))
    environments = Environments(NoReferences(), None)
    devices = devices or NoDevices()
    secrets = PullSecrets(NoReferences(), recorder, directory / "config.json")
    images = ImageSource(Images(provider), builtin, recorder, secrets, None, PullLimit(0, 0))
    starter = Starter(
        config, cast("Any", provider), images, environments, recorder, RoomyNode().view, devices
    )
    watched = Watched()
    services = Services(
        config=config,
        provider=cast("Any", provider),
        starter=starter,
        volumes=VolumeManager(
            config, references=NoReferences(), client=None, recorder=recorder, node=RoomyNode()
        ),
        allocations=Allocations(
            AllocationFiles(directory / "allocations"),
            RoomyNode(),
            recorder,
            lambda _: None,
            lambda uid, eviction: manager.evict(uid, eviction),
            devices,
        ),
        probes=watched,
        hooks=watched,
        recorder=recorder,
        reporter=reporter,
        host_ip="10.0.0.1",
    )
    manager = PodManager(services)
    manager.adopt(await provider.open(manager.on_exit))
    task = asyncio.create_task(manager.run())
    await asyncio.sleep(0)
    try:
        yield Setting(provider, told, manager, watched, services.allocations)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
