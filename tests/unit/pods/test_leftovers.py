"""What an earlier agent left of pods that are no more goes; what a pod makes meanwhile stays."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from fake_node import pods_of_a_node
from waiting import eventually

from vkubelet.pods import etc_files, podinfo, termination
from vkubelet.pods.leftovers import sweep


def names(directory: Path) -> list[str]:
    return [entry.name for entry in directory.iterdir()]


async def test_only_what_is_of_no_pod_goes(tmp_path: Path) -> None:
    for uid in ("kept", "gone"):
        (tmp_path / uid / "deep").mkdir(parents=True)
    await sweep(tmp_path, lambda: {"kept"}, shutil.rmtree)
    assert names(tmp_path) == ["kept"]
    await sweep(tmp_path / "never", set, shutil.rmtree)


async def test_what_a_pod_makes_meanwhile_stays(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()

    def uids() -> set[str]:
        (tmp_path / "new").mkdir()
        return set()

    await sweep(tmp_path, uids, shutil.rmtree)
    assert names(tmp_path) == ["new"]


@pytest.mark.parametrize("part", [etc_files, podinfo, termination])
async def test_the_manager_sweeps_once_all_pods_are_known(tmp_path: Path, part: object) -> None:
    left = part.directory(tmp_path / "run", "gone")  # type: ignore[attr-defined]
    left.mkdir(parents=True)
    async with pods_of_a_node(tmp_path) as setting:
        setting.manager.synced()
        await asyncio.to_thread(eventually, lambda: not left.exists(), "the end of what was left")
