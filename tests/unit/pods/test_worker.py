"""A worker with a provider that fails, ends and hangs on demand: what a real one cannot be told to do."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from oci.errors import NotFoundError
from oci.images import Image, ImageConfig
from oci.reference import Reference
from providers.base import (
    Artifact,
    ContainerSpec,
    ContainerState,
    Exit,
    ExitListener,
    ExitReason,
    ModuleKind,
    ProviderError,
)
from vkubelet.api.objects import ObjectReference, Pod, PodStatus
from vkubelet.config import Config
from vkubelet.pods import worker as module
from vkubelet.pods.manager import PodManager
from vkubelet.pods.starter import Starter
from vkubelet.pods.worker import Services


class Provider:
    """Containers that exist as values only; `before_start` may fail or wait."""

    def __init__(self) -> None:
        self.on_exit: ExitListener = lambda state: None
        self.started: list[ContainerSpec] = []
        self.states: dict[str, ContainerState] = {}
        self.before_start: Callable[[ContainerSpec], Any] = lambda spec: None
        self.ends_at_once: int | None = None
        self.removed = asyncio.Event()

    async def open(self, on_exit: ExitListener) -> list[ContainerState]:
        self.on_exit = on_exit
        return list(self.states.values())

    async def close(self) -> None:
        self.states.clear()

    async def prepare(self, module: Path, digest: str) -> Artifact:
        return Artifact(module, ModuleKind.MODULE)

    async def start(self, spec: ContainerSpec) -> ContainerState:
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

    async def kill(self, container_id: str) -> None:
        asyncio.get_running_loop().call_soon(self.end, container_id, 137)

    async def remove(self, container_id: str) -> None:
        self.states.pop(container_id, None)
        self.removed.set()


class Images:
    """One image that is there, and none else."""

    def get(self, reference: Reference) -> Image | None:
        if reference.repository.endswith("missing"):
            return None
        nothing = ImageConfig()
        return Image(reference, "sha256:1", Path("/module"), "sha256:2", 5, (), nothing)

    async def pull(self, reference: Reference) -> Image:
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


@dataclasses.dataclass
class Setting:
    provider: Provider
    told: Told
    manager: PodManager

    def phase(self, uid: str = "u") -> str:
        return self.told.statuses[uid].phase if uid in self.told.statuses else ""


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    provider, told = Provider(), Told()
    config = Config(pod_logs_dir=str(tmp_path))
    recorder, reporter = cast("Any", told), cast("Any", told)
    starter = Starter(config, provider, Images(), recorder)
    manager = PodManager(Services(config, provider, starter, recorder, reporter, "10.0.0.1"))
    manager.adopt(await provider.open(manager.on_exit))
    task = asyncio.create_task(manager.run())
    await asyncio.sleep(0)
    yield Setting(provider, told, manager)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def pod(policy: str = "Always", image: str = "img", **metadata: Any) -> Pod:
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", **metadata},
        "spec": {"containers": [{"name": "a", "image": image}], "restartPolicy": policy},
    }
    return msgspec.convert(document, Pod)


async def test_a_pod_is_started_and_deleted(setting: Setting, tmp_path: Path) -> None:
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.phase() == "Running")
    assert (tmp_path / "ns_p_u" / "a").is_dir()
    setting.manager.on_change(pod(deletionTimestamp="2026-01-01T00:00:00Z"))
    await setting.told.until(lambda: setting.told.finished)
    assert setting.phase() == "Failed"
    for reason in ("Pulled", "Created", "Started", "Killing"):
        assert reason in [found for found, _ in setting.told.events]


async def test_an_ordinary_start_is_reported_once(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CREATING_SHOWN_AFTER", 60.0)
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.told.reports)
    # The echo of the report is no news; what comes after it is, and shows that the echo was passed over.
    setting.manager.on_change(pod(resourceVersion="2"))
    setting.manager.on_change(pod(resourceVersion="3", deletionTimestamp="2026-01-01T00:00:00Z"))
    await setting.told.until(lambda: setting.told.finished)
    assert setting.told.reports[0] == "Running"


async def test_a_start_that_takes_long_is_shown_as_being_made(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CREATING_SHOWN_AFTER", 0.01)
    go = asyncio.Event()
    setting.provider.before_start = lambda spec: go.wait()
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.told.waiting() == "ContainerCreating")
    go.set()
    await setting.told.until(lambda: setting.phase() == "Running")
    assert setting.told.reports == ["Pending", "Running"]


async def test_an_end_that_comes_before_its_start_was_noted_is_not_lost(setting: Setting) -> None:
    setting.provider.ends_at_once = 0
    setting.manager.on_change(pod("Never"))
    await setting.told.until(lambda: setting.phase() == "Succeeded")
    assert len(setting.provider.started) == 1


async def test_a_crashing_container_is_started_twice_and_then_backs_off(setting: Setting) -> None:
    setting.provider.ends_at_once = 1
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.told.waiting() == "CrashLoopBackOff")
    assert len(setting.provider.started) == 2


async def test_a_missing_image_is_an_error_and_then_a_back_off(setting: Setting) -> None:
    setting.manager.on_change(pod(image="missing"))
    await setting.told.until(lambda: setting.told.waiting() == "ErrImagePull")
    await setting.told.until(lambda: setting.told.waiting() == "ImagePullBackOff")
    assert ("Failed", "Error: ErrImagePull") in setting.told.events


async def test_a_provider_that_fails_is_a_run_error(setting: Setting) -> None:
    def fail(spec: ContainerSpec) -> None:
        raise ProviderError("no launcher")

    setting.provider.before_start = fail
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.told.waiting() == "RunContainerError")
    assert ("Failed", "Error: no launcher") in setting.told.events


async def test_a_defect_costs_its_pod_a_pause_and_no_other_anything(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(spec: ContainerSpec) -> None:
        if spec.labels["io.kubernetes.pod.uid"] == "u":
            raise RuntimeError("a defect")

    monkeypatch.setattr(module, "DEFECT_PAUSE", 60.0)
    setting.provider.before_start = broken
    setting.manager.on_change(pod())
    setting.manager.on_change(pod(uid="other", name="q"))
    await setting.told.until(lambda: setting.told.waiting() == "CreateContainerError")
    await setting.told.until(lambda: setting.phase("other") == "Running")


async def test_a_pod_deleted_while_it_starts_is_ended_and_not_lost(setting: Setting) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        asked.set()
        await go.wait()

    setting.provider.before_start = lambda spec: hold()
    setting.manager.on_change(pod())
    await asyncio.wait_for(asked.wait(), 10)
    setting.manager.on_change(pod(deletionTimestamp="2026-01-01T00:00:00Z"))
    await asyncio.sleep(0)
    go.set()
    await setting.told.until(lambda: setting.told.finished)
    assert all(state.exit is not None for state in setting.provider.states.values())


async def test_a_pod_that_vanishes_is_ended_and_reported_no_more(setting: Setting) -> None:
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.phase() == "Running")
    setting.manager.on_delete(pod())
    await asyncio.wait_for(setting.provider.removed.wait(), 10)
    assert setting.provider.states == {}
    assert setting.told.finished == []


async def test_containers_of_no_pod_are_ended_once_all_pods_are_known(setting: Setting) -> None:
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.phase() == "Running")
    (orphan,) = setting.provider.states.values()
    labels = dict(orphan.labels) | {"io.kubernetes.pod.uid": "gone"}
    setting.provider.states["lost"] = dataclasses.replace(orphan, id="lost", labels=labels)
    setting.manager.adopt([setting.provider.states["lost"]])
    setting.manager.synced()
    await asyncio.wait_for(setting.provider.removed.wait(), 10)
    assert list(setting.provider.states) == [orphan.id]
