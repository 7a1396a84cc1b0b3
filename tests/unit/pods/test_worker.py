"""A worker with a provider that fails, ends and hangs on demand."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_node import Setting, pods_of_a_node
from set_clock import SetClock
from waiting import until

from providers.base import ContainerSpec, Preopen, ProviderError
from vkubelet import footprint
from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod
from vkubelet.pods import worker as module
from vkubelet.pods.directory import ContainerNotFoundError, ContainerNotReadyError


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with pods_of_a_node(tmp_path) as made:
        yield made


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


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


async def test_a_pod_that_is_gone_waits_for_no_collector_of_cycles(
    setting: Setting, without_collector: None
) -> None:
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.phase() == "Running")
    found = setting.manager.find("ns", "p", None)
    assert found is not None
    worker = weakref.ref(found)
    del found
    setting.manager.on_change(pod(deletionTimestamp="2026-01-01T00:00:00Z"))
    async with asyncio.timeout(10):
        while worker() is not None:  # noqa: ASYNC110  an object's end is what is waited for
            await asyncio.sleep(0.01)
    assert setting.told.finished


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


async def test_what_a_container_has_left_goes_back_when_it_has_ended(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = asyncio.Event()
    monkeypatch.setattr(footprint, "QUIET", 0.01)
    monkeypatch.setattr(footprint, "_trim", given.set)
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.phase() == "Running")
    assert not given.is_set()
    (spec,) = setting.provider.started
    setting.provider.end(spec.id, 1)
    async with asyncio.timeout(10):
        await given.wait()


async def test_a_crashing_container_is_started_twice_and_then_backs_off(setting: Setting) -> None:
    setting.provider.ends_at_once = 1
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.told.waiting() == "CrashLoopBackOff")
    assert len(setting.provider.started) == 2


@pytest.mark.parametrize("ahead", [-3600, 3600])
async def test_a_clock_that_is_set_changes_no_wait(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    clock = SetClock(monkeypatch)
    monkeypatch.setattr("vkubelet.pods.backoff.INITIAL", 0.3)
    limited = pod(uid="limited", name="q")
    limited.spec.active_deadline_seconds = 600
    setting.manager.on_change(limited)
    await setting.told.until(lambda: setting.phase("limited") == "Running")
    setting.provider.ends_at_once = 1
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.told.waiting() == "CrashLoopBackOff")
    clock.ahead = ahead
    seen, began = len(setting.provider.started), asyncio.get_running_loop().time()
    await setting.told.until(lambda: len(setting.provider.started) == seen + 1)
    # What ends after the clock was set waits, too, and as long: twice what it waited before.
    await setting.told.until(lambda: len(setting.provider.started) == seen + 2)
    assert asyncio.get_running_loop().time() - began > 0.8
    setting.provider.end(setting.provider.started[0].id, 1)
    await setting.told.until(lambda: setting.told.waiting("limited") == "CrashLoopBackOff")
    assert setting.phase("limited") == "Running", "its deadline has not come"


async def test_a_missing_image_is_an_error_and_then_a_back_off(setting: Setting) -> None:
    setting.manager.on_change(pod(image="missing"))
    await setting.told.until(lambda: setting.told.waiting() == "ErrImagePull")
    await setting.told.until(lambda: setting.told.waiting() == "ImagePullBackOff")
    assert ("Failed", "Error: ErrImagePull") in setting.told.events


async def test_a_damaged_module_is_got_anew(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vkubelet.pods.backoff.INITIAL", 0.0)
    setting.provider.is_damaged = True
    setting.manager.on_change(pod())
    await setting.told.until(lambda: bool(setting.provider.started))
    assert len(setting.provider.prepared) == 2
    assert ("Failed", "Error: it is damaged") in setting.told.events


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


@pytest.mark.parametrize("by", ["this agent", "an earlier one"])
async def test_a_pod_that_was_refused_has_no_containers_with_logs(setting: Setting, by: str) -> None:
    refused = pod()
    if by == "this agent":
        refused.spec.host_pid = True
        setting.manager.on_change(refused)
        await setting.told.until(lambda: setting.phase() == "Failed")
    else:
        refused.status.phase = "Failed"
        setting.manager.on_change(refused)
    for previous in (False, True):
        with pytest.raises(ContainerNotReadyError, match=r'^container "a" in pod "p" is not available$'):
            setting.manager.log_file("ns", "p", "a", uid=None, previous=previous)
    with pytest.raises(ContainerNotFoundError, match=r'^container "b" not found in pod "p"$'):
        setting.manager.log_file("ns", "p", "b", uid=None, previous=False)


@pytest.mark.parametrize("at_first", [True, False], ids=["from the start", "before its first turn"])
async def test_a_pod_that_is_deleted_before_it_was_looked_at_is_refused_too(
    setting: Setting, at_first: bool
) -> None:
    elsewhere = [pod(), pod(deletionTimestamp="2026-01-01T00:00:00Z")]
    for version in elsewhere:
        version.spec.node_selector = {"zone": "elsewhere"}
    for version in elsewhere[at_first:]:
        setting.manager.on_change(version)
    await setting.told.until(lambda: setting.told.finished)
    text = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    assert setting.told.events == [("NodeAffinity", text)]
    assert setting.phase() == "Failed"


async def test_a_pod_that_an_agent_took_is_not_refused_when_it_is_to_end(setting: Setting) -> None:
    taken = pod(deletionTimestamp="2026-01-01T00:00:00Z")
    taken.spec.node_selector = {"zone": "elsewhere"}
    taken.status.start_time = "2026-01-01T00:00:00Z"
    setting.manager.on_change(taken)
    await setting.told.until(lambda: setting.told.finished)
    assert setting.told.events == []


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


def debugged(target: str = "a", image: str = "img", **metadata: Any) -> Pod:
    made = pod(**metadata)
    debugger = {"name": "debugger", "image": image, "targetContainerName": target, "stdin": True, "tty": True}
    document = msgspec.to_builtins(made)
    document["spec"]["ephemeralContainers"] = [debugger]
    return msgspec.convert(document, Pod)


async def test_an_ephemeral_container_joins_a_running_pod_and_sees_its_targets_files(
    setting: Setting,
) -> None:
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.phase() == "Running")
    setting.manager.on_change(debugged())
    await setting.told.until(lambda: setting.told.statuses["u"].ephemeral_container_statuses)
    await setting.told.until(
        lambda: (setting.told.statuses["u"].ephemeral_container_statuses or [])[0].state.running
    )
    target, debugger = setting.provider.started
    assert Preopen(setting.provider.root(target.id), "/proc/1/root") in debugger.preopens
    assert (debugger.stdin, debugger.tty, target.tty) == (True, True, False)
    assert ("TERM", "xterm") in debugger.env
    setting.manager.on_change(debugged(deletionTimestamp="2026-01-01T00:00:00Z"))
    await setting.told.until(lambda: setting.told.finished)
    assert all(state.exit is not None for state in setting.provider.states.values())


async def test_an_ephemeral_container_without_its_target_waits_and_says_why(setting: Setting) -> None:
    setting.provider.ends_at_once = 0
    setting.manager.on_change(debugged())
    await setting.told.until(lambda: setting.told.statuses.get("u") is not None)

    def waiting() -> str:
        statuses = setting.told.statuses["u"].ephemeral_container_statuses or []
        return statuses[0].state.waiting.message if statuses and statuses[0].state.waiting else ""

    await setting.told.until(lambda: waiting() == "unable to find target container a")


async def test_the_nodes_own_image_is_asked_of_no_registry(setting: Setting) -> None:
    setting.manager.on_change(pod(image="vkubelet.local/toolbox"))
    await setting.told.until(lambda: setting.told.waiting() == "ErrImagePull")
    reasons = [message for reason, message in setting.told.events if reason == "Failed"]
    assert "the toolbox is turned off on this node" in reasons[0]
    setting.manager.on_change(pod(image="vkubelet.local/other", uid="v", name="q"))
    await setting.told.until(lambda: setting.told.waiting("v") == "ErrImagePull")


async def test_the_log_of_a_container_that_is_lost_is_still_there(setting: Setting, tmp_path: Path) -> None:
    """As after a boot, when nothing tells of a container but its pod's status, and its log."""
    lost = pod()
    lost.status = msgspec.convert(
        {
            "phase": "Running",
            "containerStatuses": [
                {"name": "a", "restartCount": 4, "state": {"running": {}}, "containerID": "wasmtime://x"}
            ],
        },
        type(lost.status),
    )
    setting.manager.on_change(lost)
    await setting.told.until(lambda: setting.provider.started)
    with pytest.raises(ContainerNotReadyError, match="terminated"):
        setting.manager.log_file("ns", "p", "a", uid=None, previous=True)
    path = tmp_path / "ns_p_u" / "a" / "4.log"
    path.write_text("said")
    found = setting.manager.log_file("ns", "p", "a", uid=None, previous=True)
    assert found.path == path
    assert found.end.is_set()


async def test_a_container_that_ends_while_it_is_adopted_is_still_its_pods(
    setting: Setting, tmp_path: Path
) -> None:
    """The provider tells of an end before it has given what it found: nobody takes the pod for gone."""
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.phase() == "Running")
    (found,) = setting.provider.states.values()
    labels = dict(found.labels) | {"io.kubernetes.pod.uid": "late"}
    setting.provider.states["early"] = dataclasses.replace(found, id="early", labels=labels)
    (tmp_path / "run" / "termination" / "late" / "a-0").mkdir(parents=True)
    setting.provider.end("early", 137)
    await asyncio.sleep(0)
    setting.manager.adopt([setting.provider.states["early"]])
    late = pod(uid="late", name="late")
    setting.manager.on_change(late)
    await setting.told.until(lambda: len(setting.provider.started) == 2)
    setting.manager.synced()
    assert "early" in setting.provider.states
    assert not setting.provider.removed.is_set()
    again = setting.provider.started[1]
    assert again.labels["io.kubernetes.container.restartCount"] == "1"


async def test_a_start_that_is_cancelled_leaves_nothing_of_former_attempts(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vkubelet.pods.backoff.INITIAL", 0.0)
    removed: list[str] = []

    async def remove(identifier: str) -> None:
        """It takes so long that the pod has begun anew meanwhile."""
        removed.append(identifier)
        await asyncio.Event().wait()

    monkeypatch.setattr(setting.provider, "remove", remove)
    again = pod("Never")
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    containers = [{"name": "a", "image": "img", "restartPolicy": "Never", "restartPolicyRules": [rule]}]
    again.spec.containers = msgspec.convert(containers, list[Container])
    setting.provider.ends_at_once = 42
    setting.manager.on_change(again)
    await until(lambda: len(removed) > 2)
    worker = setting.manager.find("ns", "p", None)
    assert worker is not None
    # The last one is being removed.
    assert set(removed[:-1]).isdisjoint(worker.containers.identifiers())
    messages = {place.name for place in (tmp_path / "run" / "termination" / "u").iterdir()}
    assert messages
    assert "a-0" not in messages
    setting.provider.ends_at_once = None
