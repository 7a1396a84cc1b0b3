"""What the node's pods tell those who measure and count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_node import Setting, pods_of_a_node

from vkubelet import telemetry
from vkubelet.api.objects import Pod
from vkubelet.meters import Counter, Histogram


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with pods_of_a_node(tmp_path) as made:
        yield made


def pod(policy: str = "Always", image: str = "img", **more: Any) -> Pod:
    containers = [{"name": name, "image": image} for name in ("a", "b")]
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"containers": containers, "restartPolicy": policy, **more},
    }
    return msgspec.convert(document, Pod)


def count(meter: Counter | Histogram, labels: str = "") -> float:
    """What was counted so far where the labels are these."""
    return sum(
        sample.value
        for sample in meter.family().samples
        if sample.labels == labels and sample.suffix in ("", "_count")
    )


async def test_a_pod_is_listed_with_what_it_has_started(setting: Setting) -> None:
    assert setting.manager.pods() == []
    setting.manager.on_change(pod("Never"))
    (new,) = setting.manager.pods()
    assert (new.pod.metadata.name, new.containers) == ("p", ())
    await setting.told.until(lambda: setting.phase() == "Running" and len(setting.provider.started) == 2)
    first, second = setting.provider.started
    setting.provider.end(first.id, 0)
    (entry,) = setting.manager.pods()
    by_id = {container.id: container for container in entry.containers}
    assert by_id.keys() == {first.id, second.id}
    assert (by_id[first.id].running, by_id[second.id].running) == (False, True)
    assert by_id[second.id].started_at == setting.provider.states[second.id].started_at
    assert by_id[second.id].image_id.endswith("@sha256:1")


async def test_starts_and_ends_are_counted(setting: Setting) -> None:
    started = count(telemetry.STARTED_CONTAINERS, 'container_type="container"')
    ended = 'container_type="container",exit_code="3",reason="Error"'
    before = count(telemetry.TERMINATED_CONTAINERS, ended)
    running = count(telemetry.POD_START_DURATION)
    created = count(telemetry.POD_WORKER_DURATION, 'operation_type="create"')
    setting.manager.on_change(pod("Never"))
    await setting.told.until(lambda: setting.phase() == "Running" and len(setting.provider.started) == 2)
    assert count(telemetry.STARTED_CONTAINERS, 'container_type="container"') == started + 2
    assert count(telemetry.POD_START_DURATION) == running + 1
    assert count(telemetry.POD_WORKER_DURATION, 'operation_type="create"') == created + 1
    setting.provider.end(setting.provider.started[0].id, 3)
    assert count(telemetry.TERMINATED_CONTAINERS, ended) == before + 1


async def test_an_end_that_comes_before_its_start_was_noted_is_counted(setting: Setting) -> None:
    labels = 'container_type="container",exit_code="0",reason="Completed"'
    before = count(telemetry.TERMINATED_CONTAINERS, labels)
    setting.provider.ends_at_once = 0
    setting.manager.on_change(pod("Never"))
    await setting.told.until(lambda: setting.phase() == "Succeeded")
    assert count(telemetry.TERMINATED_CONTAINERS, labels) == before + 2


async def test_a_start_that_fails_is_counted_by_its_reason(setting: Setting) -> None:
    labels = 'code="ErrImagePull",container_type="container"'
    before = count(telemetry.STARTED_CONTAINER_ERRORS, labels)
    setting.manager.on_change(pod(image="missing"))
    await setting.told.until(lambda: setting.told.waiting() == "ErrImagePull")
    assert count(telemetry.STARTED_CONTAINER_ERRORS, labels) >= before + 1


async def test_an_ephemeral_container_is_counted_as_one(setting: Setting) -> None:
    labels = 'container_type="ephemeral_container"'
    before = count(telemetry.STARTED_CONTAINERS, labels)
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.phase() == "Running")
    setting.manager.on_change(pod(ephemeralContainers=[{"name": "debugger", "image": "img"}]))
    await setting.told.until(lambda: setting.told.statuses["u"].ephemeral_container_statuses)
    await setting.told.until(lambda: len(setting.provider.started) == 3)
    await setting.told.until(
        lambda: (setting.told.statuses["u"].ephemeral_container_statuses or [])[0].state.running
    )
    assert count(telemetry.STARTED_CONTAINERS, labels) == before + 1


async def test_a_pod_that_is_refused_is_counted_by_the_reason(setting: Setting) -> None:
    labels = 'reason="UnsupportedPodSpec"'
    before = count(telemetry.ADMISSION_REJECTIONS, labels)
    setting.manager.on_change(pod(hostPID=True))
    await setting.told.until(lambda: setting.phase() == "Failed")
    assert count(telemetry.ADMISSION_REJECTIONS, labels) == before + 1
