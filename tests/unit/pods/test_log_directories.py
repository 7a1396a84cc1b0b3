"""Whose logs a directory holds: this node's are removed with their pods, and nobody else's."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from fake_node import pods_of_a_node
from waiting import eventually

from vkubelet.pods import log_directories


def made(root: Path, logs: Path, uid: str) -> Path:
    """The logs of a pod of this node."""
    container = logs / f"ns_p_{uid}" / "main"
    log_directories.make(log_directories.link(root, uid), container)
    (container / "0.log").write_text("said")
    return container.parent


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def test_they_go_with_their_pod(tmp_path: Path, logs: Path) -> None:
    kept, gone = made(tmp_path / "root", logs, "kept"), made(tmp_path / "root", logs, "gone")
    log_directories.remove(log_directories.link(tmp_path / "root", "gone"))
    assert list(logs.iterdir()) == [kept]
    assert not gone.exists()
    assert [path.name for path in (tmp_path / "root" / "pod-logs").iterdir()] == ["kept"]
    log_directories.remove(log_directories.link(tmp_path / "root", "gone"))


@pytest.mark.parametrize("left", ["link", "pod", "container"])
def test_it_may_be_killed_between_any_two_steps(tmp_path: Path, logs: Path, left: str) -> None:
    """The link is there first, and gone last: what only a part is left of is made, and is removed."""
    link = log_directories.link(tmp_path / "root", "u")
    where = made(tmp_path / "root", logs, "u")
    shutil.rmtree(where if left == "link" else where / "main")
    if left == "container":
        (where / "main").mkdir()
    log_directories.make(link, where / "main")
    assert (where / "main").is_dir()
    shutil.rmtree(where if left == "link" else where / "main")
    log_directories.remove(link)
    assert list(logs.iterdir()) == list(link.parent.iterdir()) == []


def test_what_is_no_link_of_ours_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    link = log_directories.link(tmp_path, "u")
    link.mkdir(parents=True)
    log_directories.remove(link)
    assert link.is_dir()
    assert str(link) in caplog.text


async def test_those_of_pods_that_are_no_more_go_and_a_kubelets_stay(tmp_path: Path, logs: Path) -> None:
    left = made(tmp_path / "root", logs, "gone")
    of_a_kubelet = logs / "ns_p_other" / "main"
    of_a_kubelet.mkdir(parents=True)
    async with pods_of_a_node(tmp_path) as setting:
        setting.manager.synced()
        await asyncio.to_thread(eventually, lambda: not left.exists(), "the end of what was left")
    assert of_a_kubelet.is_dir()


def test_what_was_left_of_attempts_before_goes_first_and_no_later_one(tmp_path: Path) -> None:
    names = ("2.log", "1.log", "10.log", "1.log.20261126-101500", "0.log", "0.log.20261126-101000", "notes")
    for name in names:
        (tmp_path / name).touch()
    expected = ["0.log.20261126-101000", "0.log", "1.log.20261126-101500", "1.log"]
    assert [path.name for path in log_directories.up_to(tmp_path, 1)] == expected
    assert log_directories.up_to(tmp_path / "none", 1) == []
