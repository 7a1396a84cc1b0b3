"""What is told of a pod to who looks for why it is not further."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from fake_node import Setting, pods_of_a_node

from providers.base import ContainerSpec, Exit, ExitReason
from vkubelet.api.objects import Pod
from vkubelet.pods.insight import insight
from vkubelet.pods.observed import (
    Attempt,
    ContainerView,
    Eviction,
    Observed,
    Probed,
    Rejection,
    VolumesView,
    Waiting,
)

NOW = 1000.0
RUNNING = ContainerView(latest=Attempt("c1", 2, "img", 900))
ENDED = ContainerView(latest=Attempt("c1", 0, "img", 900, Exit(3, ExitReason.ERROR, "", 900, 950)))


def pod(**metadata: str) -> Pod:
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", **metadata},
        "spec": {"containers": [{"name": "a", "image": "i", "env": [{"name": "K", "value": "a secret"}]}]},
        "status": {"phase": "Pending"},
    }
    return msgspec.convert(document, Pod)


DELETED = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("seen", "deleted", "waits"),
    [
        (Observed({"a": RUNNING}, 990.0), "", ("news",)),
        (Observed({"a": RUNNING}, 990.0), DELETED, ("the end of container a",)),
        (Observed({"a": RUNNING}, 990.0, gone=True), "", ("the end of container a",)),
        (Observed({"a": RUNNING}, 990.0, draining=True), "", ("the end of container a",)),
        (Observed({"a": RUNNING}, 990.0, eviction=Eviction("m", 0)), "", ("the end of container a",)),
        (Observed({"a": ENDED}, 990.0), DELETED, ("news",)),
        (Observed({"a": ContainerView(starting=True)}, 990.0), "", ("the start of container a",)),
        (
            Observed({}, 990.0, VolumesView(mounted=False, mounting=True)),
            "",
            ("its volumes to be mounted",),
        ),
        (
            Observed({}, 990.0, VolumesView(mounted=False, retry_at=1002.0)),
            "",
            ("the next try to mount its volumes, in 2.0 s",),
        ),
        (Observed({}, 990.0, VolumesView(mounted=False, retry_at=900.0)), "", ("news",)),
        (
            Observed({"a": ContainerView(waiting=Waiting("ErrImagePull", "a secret", 990.0, 1010.5))}, 990.0),
            "",
            ("the next try to start container a, in 10.5 s",),
        ),
        (Observed({"a": ContainerView()}, 990.0, rejection=Rejection("OutOfcpu", "m")), "", ("news",)),
    ],
)
def test_what_it_waits_for(seen: Observed, deleted: str, waits: tuple[str, ...]) -> None:
    found = insight(pod(**({"deletionTimestamp": deleted} if deleted else {})), seen, NOW)
    assert found.waits_for == waits
    assert found.seconds_here == 10.0
    assert "a secret" not in msgspec.json.encode(found).decode()


@pytest.mark.parametrize(
    ("view", "state", "reason", "count", "code"),
    [
        (ContainerView(), "waiting", "", 0, None),
        (ContainerView(starting=True, latest=RUNNING.latest), "starting", "", 2, None),
        (RUNNING, "running", "", 2, None),
        (ENDED, "terminated", "", 0, 3),
        (
            ContainerView(latest=ENDED.latest, waiting=Waiting("CrashLoopBackOff", "m")),
            "waiting",
            "CrashLoopBackOff",
            0,
            3,
        ),
    ],
)
def test_containers(view: ContainerView, state: str, reason: str, count: int, code: int | None) -> None:
    (found,) = insight(pod(), Observed({"a": view}, 990.0), NOW).containers
    assert (found.name, found.state, found.reason) == ("a", state, reason)
    assert (found.restart_count, found.exit_code) == (count, code)


def test_verdicts_of_probes_are_told_once_there_are_any() -> None:
    view = ContainerView(latest=RUNNING.latest, probed=Probed(startup=True, readiness=False))
    (found,) = insight(pod(), Observed({"a": view}, 990.0), NOW).containers
    assert found.probed == {"startup": True, "readiness": False}


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with pods_of_a_node(tmp_path) as made:
        yield made


async def test_the_manager_tells_of_each_pod(setting: Setting) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def hold(spec: ContainerSpec) -> None:
        asked.set()
        await go.wait()

    assert setting.manager.insights() == []
    setting.provider.before_start = hold
    setting.manager.on_change(pod())
    await asked.wait()
    (found,) = setting.manager.insights()
    assert found.waits_for == ("the start of container a",)
    assert setting.manager.queue() == {"workers": 1, "adopted": 0, "orphans": 0}
    go.set()
    await setting.told.until(lambda: setting.phase() == "Running")
    (found,) = setting.manager.insights()
    assert (found.waits_for, found.containers[0].state) == (("news",), "running")
