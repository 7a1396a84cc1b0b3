"""How a worker ends containers and starts them with hooks and probes, on a provider that does as it is
told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_node import Setting, pods_of_a_node

from providers.base import ProviderError
from vkubelet.api.containers import LifecycleHandler
from vkubelet.api.objects import Pod
from vkubelet.pods.directory import ContainerNotReadyError
from vkubelet.pods.probes.state import ProbeKind
from vkubelet.pods.running import RunningContainer
from vkubelet.pods.services import HookError

PRE_STOP = {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}
POST_START = {"lifecycle": {"postStart": {"sleep": {"seconds": 1}}}}
DELETED = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with pods_of_a_node(tmp_path) as made:
        yield made


def pod(container: dict[str, Any], metadata: dict[str, Any] | None = None, **spec: Any) -> Pod:
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", **(metadata or {})},
        "spec": {"containers": [{"name": "a", "image": "img", **container}], **spec},
    }
    return msgspec.convert(document, Pod)


def reasons(setting: Setting) -> list[str]:
    return [reason for reason, _ in setting.told.events]


def running(setting: Setting) -> bool:
    statuses = setting.told.statuses.get("u")
    return statuses is not None and any(
        item.state.running is not None for item in statuses.container_statuses or ()
    )


async def test_a_pre_stop_hook_comes_first_and_uses_up_grace(setting: Setting) -> None:
    hooked = asyncio.Event()
    go = asyncio.Event()

    async def hook() -> None:
        hooked.set()
        await go.wait()

    setting.watched.hook = lambda handler, found: hook()
    setting.manager.on_change(pod(PRE_STOP))
    await setting.told.until(lambda: running(setting))
    setting.manager.on_change(pod(PRE_STOP, DELETED | {"deletionGracePeriodSeconds": 60}))
    await asyncio.wait_for(hooked.wait(), 10)
    assert not setting.provider.graces, "nothing is stopped while the hook runs"
    go.set()
    await setting.told.until(lambda: setting.told.finished)
    (grace,) = setting.provider.graces.values()
    assert 50 < grace <= 60


async def test_a_hook_that_hangs_is_given_up_at_the_end_of_the_grace(setting: Setting) -> None:
    setting.watched.hook = lambda handler, found: asyncio.Event().wait()
    setting.manager.on_change(pod(PRE_STOP))
    await setting.told.until(lambda: running(setting))
    setting.manager.on_change(pod(PRE_STOP, DELETED | {"deletionGracePeriodSeconds": 1}))
    await setting.told.until(lambda: setting.told.finished)
    assert list(setting.provider.graces.values()) == [2]


async def test_a_pod_that_is_deleted_by_force_waits_for_no_hook(setting: Setting) -> None:
    hooked = asyncio.Event()

    async def hook() -> None:
        hooked.set()
        await asyncio.Event().wait()

    setting.watched.hook = lambda handler, found: hook()
    setting.manager.on_change(pod(PRE_STOP))
    await setting.told.until(lambda: running(setting))
    setting.manager.on_change(pod(PRE_STOP, DELETED | {"deletionGracePeriodSeconds": 3600}))
    await asyncio.wait_for(hooked.wait(), 10)
    setting.manager.on_change(pod(PRE_STOP, DELETED | {"deletionGracePeriodSeconds": 0}))
    await setting.told.until(lambda: setting.told.finished)
    assert reasons(setting).count("Killing") == 1


async def test_a_pre_stop_hook_that_fails_is_told_of_and_holds_nothing_up(setting: Setting) -> None:
    def fail(handler: LifecycleHandler, found: RunningContainer) -> None:
        raise HookError("no such command")

    setting.watched.hook = fail
    setting.manager.on_change(pod(PRE_STOP))
    await setting.told.until(lambda: running(setting))
    setting.manager.on_change(pod(PRE_STOP, DELETED))
    await setting.told.until(lambda: setting.told.finished)
    assert "FailedPreStopHook" in reasons(setting)


async def test_a_container_runs_once_its_post_start_hook_is_done(setting: Setting) -> None:
    hooked, go = asyncio.Event(), asyncio.Event()

    async def hook() -> None:
        hooked.set()
        await go.wait()

    setting.watched.hook = lambda handler, found: hook()
    setting.manager.on_change(pod(POST_START))
    await asyncio.wait_for(hooked.wait(), 10)
    await setting.told.until(lambda: setting.told.waiting() == "ContainerCreating")
    assert not running(setting)
    go.set()
    await setting.told.until(lambda: running(setting))


async def test_a_container_whose_post_start_hook_fails_is_ended_and_restarted(setting: Setting) -> None:
    def fail(handler: LifecycleHandler, found: RunningContainer) -> None:
        raise HookError("no such command")

    setting.watched.hook = fail
    setting.manager.on_change(pod(POST_START))
    await setting.told.until(lambda: setting.told.waiting() == "PostStartHookError")
    (shown,) = setting.told.statuses["u"].container_statuses or ()
    assert shown.state.waiting is not None
    assert shown.state.waiting.message == "no such command"
    assert shown.last_state.terminated is not None
    assert ("FailedPostStartHook", "PostStartHook failed") in setting.told.events
    assert ("Killing", "FailedPostStartHook") in setting.told.events
    await setting.told.until(lambda: len(setting.provider.started) == 2)
    await setting.told.until(lambda: setting.told.waiting() == "PostStartHookError")
    await setting.told.until(lambda: setting.told.waiting() == "CrashLoopBackOff")
    assert len(setting.provider.started) == 2


async def test_a_failed_post_start_hook_of_what_is_not_restarted_shows_how_it_ended(setting: Setting) -> None:
    def fail(handler: LifecycleHandler, found: RunningContainer) -> None:
        raise HookError("no such command")

    setting.watched.hook = fail
    setting.manager.on_change(pod(POST_START, restartPolicy="Never"))
    await setting.told.until(lambda: setting.phase() == "Failed")
    (shown,) = setting.told.statuses["u"].container_statuses or ()
    assert shown.state.terminated is not None
    assert shown.state.terminated.exit_code == 137
    with pytest.raises(ContainerNotReadyError, match="previous terminated"):
        setting.manager.log_file("ns", "p", "a", uid=None, previous=True)


async def test_a_container_that_ends_by_itself_while_its_hook_sleeps_has_not_failed(setting: Setting) -> None:
    def end(handler: LifecycleHandler, found: RunningContainer) -> None:
        setting.provider.end(found.state.id, 0)
        raise HookError("container terminated before sleep hook finished")

    setting.watched.hook = end
    setting.manager.on_change(pod(POST_START, restartPolicy="Never"))
    await setting.told.until(lambda: setting.phase() == "Succeeded")
    assert "FailedPostStartHook" not in reasons(setting)


async def test_an_end_for_a_failed_hook_is_asked_for_until_it_comes(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handler: LifecycleHandler, found: RunningContainer) -> None:
        raise HookError("no such command")

    stop, asked = setting.provider.stop, []

    async def refuse_once(container_id: str, grace_seconds: float) -> None:
        asked.append(container_id)
        if len(asked) == 1:
            raise ProviderError("no launcher")
        await stop(container_id, grace_seconds)

    monkeypatch.setattr("vkubelet.pods.attempts.STOP_PAUSE", 0.01)
    setting.provider.stop = refuse_once  # type: ignore[method-assign]
    setting.watched.hook = fail
    setting.manager.on_change(pod(POST_START, restartPolicy="Never", terminationGracePeriodSeconds=0))
    await setting.told.until(lambda: setting.phase() == "Failed")
    assert len(asked) == 2


async def test_a_container_that_fails_its_liveness_probe_is_restarted(setting: Setting) -> None:
    probed = {"livenessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 5}}
    setting.manager.on_change(pod(probed))
    await setting.told.until(lambda: setting.watched.probed)
    (tell,) = setting.watched.probed.values()
    tell(ProbeKind.LIVENESS, False)
    await setting.told.until(lambda: len(setting.provider.started) == 2)
    first = setting.provider.started[0].id
    assert 4 < setting.provider.graces[first] <= 5
    assert ("Killing", "Container a failed liveness probe, will be restarted") in setting.told.events
    tell(ProbeKind.LIVENESS, False)  # of the first attempt: it has nothing to say any more
    await setting.told.until(lambda: running(setting))
    assert len(setting.provider.started) == 2


async def test_a_sidecar_ends_after_the_pods_own_container(setting: Setting) -> None:
    ended: list[str] = []
    stop = setting.provider.stop

    async def note(container_id: str, grace_seconds: float) -> None:
        spec = setting.provider.spec(container_id)
        ended.append(spec.labels["io.kubernetes.container.name"])
        await stop(container_id, grace_seconds)

    setting.provider.stop = note  # type: ignore[method-assign]
    sidecar = {"name": "s", "image": "img", "restartPolicy": "Always"}
    setting.manager.on_change(pod({}, initContainers=[sidecar]))
    await setting.told.until(lambda: running(setting))
    assert [spec.labels["io.kubernetes.container.name"] for spec in setting.provider.started] == ["s", "a"]
    setting.manager.on_change(pod({}, DELETED, initContainers=[sidecar]))
    await setting.told.until(lambda: setting.told.finished)
    assert ended == ["a", "s"]
