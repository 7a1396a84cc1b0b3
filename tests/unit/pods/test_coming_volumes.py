"""Containers whose volumes lack something that takes a while: made ready meanwhile, and started with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from fake_node import Setting, pods_of_a_node

from vkubelet.api.objects import Pod
from vkubelet.api.volumes import Volume
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.kinds import Mounted, Prepared


class Late:
    """A kind whose volumes are a directory at once, and complete when they are told to be."""

    renewed = False

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.waiting = 0
        self.outcomes: asyncio.Queue[str] = asyncio.Queue()

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        return Prepared(self._made, at_once=True, rest=self._rest)

    def _made(self) -> Mounted:
        self._directory.mkdir(exist_ok=True)
        return Mounted(self._directory, read_only=True)

    async def _rest(self) -> Prepared:
        self.waiting += 1
        if wrong := await self.outcomes.get():
            raise SetUpError(wrong)
        return Prepared(self._whole, at_once=True)

    def _whole(self) -> Mounted:
        (self._directory / "token").write_text("t")
        return self._made()


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with pods_of_a_node(tmp_path) as setting:
        yield setting


@pytest.fixture
def late(setting: Setting, tmp_path: Path) -> Late:
    kind = Late(tmp_path / "late")
    volumes = setting.manager._services.volumes
    cast("dict[str, Any]", volumes._node.kinds)["projected"] = kind
    return kind


def pod(*, sub_path: str = "", **metadata: Any) -> Pod:
    mount = {"name": "late", "mountPath": "/late", "subPath": sub_path}
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", **metadata},
        "spec": {
            "containers": [{"name": "a", "image": "img", "volumeMounts": [mount]}],
            "volumes": [{"name": "late", "projected": {}}],
        },
    }
    return msgspec.convert(document, Pod)


async def until_asked(setting: Setting) -> None:
    async with asyncio.timeout(10):
        while not setting.provider.asked:  # noqa: ASYNC110  a list tells nobody
            await asyncio.sleep(0.005)


async def test_a_container_is_made_ready_while_its_volumes_come(setting: Setting, late: Late) -> None:
    setting.manager.on_change(pod())
    await until_asked(setting)
    assert late.waiting == 1
    assert setting.provider.started == []
    assert "Created" not in [reason for reason, _ in setting.told.events]
    late.outcomes.put_nowait("")
    await setting.told.until(lambda: setting.phase() == "Running")
    assert [reason for reason, _ in setting.told.events][-2:] == ["Created", "Started"]
    (spec,) = setting.provider.started
    assert [(mount.guest, mount.read_only) for mount in spec.preopens if mount.guest == "/late"] == [
        ("/late", True)
    ]


async def test_volumes_that_do_not_come_are_told_and_the_start_waits_for_the_next_try(
    setting: Setting, late: Late
) -> None:
    setting.manager.on_change(pod())
    await until_asked(setting)
    late.outcomes.put_nowait("failed to fetch token: no")
    text = 'MountVolume.SetUp failed for volume "late" : failed to fetch token: no'
    await setting.told.until(lambda: setting.told.waiting() == "ContainerCreating")
    assert ("FailedMount", text) in setting.told.events
    assert setting.provider.started == []
    late.outcomes.put_nowait("")
    await setting.told.until(lambda: setting.phase() == "Running")
    assert len(setting.provider.asked) == 2
    assert len(setting.provider.started) == 1
    assert "Failed" not in [reason for reason, _ in setting.told.events], "nothing is wrong with the start"


async def test_a_pod_deleted_while_its_volumes_come_has_run_nothing(setting: Setting, late: Late) -> None:
    setting.manager.on_change(pod())
    await until_asked(setting)
    setting.manager.on_change(pod(deletionTimestamp="2026-01-01T00:00:00Z"))
    await setting.told.until(lambda: setting.told.finished)
    assert setting.provider.started == []
    assert "Created" not in [reason for reason, _ in setting.told.events]


async def test_nothing_is_looked_at_in_a_volume_that_is_not_complete(setting: Setting, late: Late) -> None:
    setting.manager.on_change(pod(sub_path="token"))
    async with asyncio.timeout(10):
        while not late.waiting:  # noqa: ASYNC110  a count tells nobody
            await asyncio.sleep(0.005)
    for _ in range(20):
        await asyncio.sleep(0)
    assert setting.provider.asked == []
    late.outcomes.put_nowait("")
    await setting.told.until(lambda: setting.phase() == "Running")
    (spec,) = setting.provider.started
    assert [(file.guest, file.beneath) for file in spec.files if file.guest == "/late"] == [
        ("/late", "token")
    ]
