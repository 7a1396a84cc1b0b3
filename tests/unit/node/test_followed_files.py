"""Files that are exchanged in every way that there is, on a real file system."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from vkubelet.node import followed_files
from vkubelet.node.followed_files import follow, places

Shapes = Callable[[Path], tuple[Path, set[Path]]]


def plain(at: Path) -> tuple[Path, set[Path]]:
    (at / "file").touch()
    return at / "file", {at}


def missing(at: Path) -> tuple[Path, set[Path]]:
    return at / "no" / "such" / "file", {at}


def below_a_file(at: Path) -> tuple[Path, set[Path]]:
    (at / "file").touch()
    return at / "file" / "x", {at}


def mounted_secret(at: Path) -> tuple[Path, set[Path]]:
    (at / "..1").mkdir()
    (at / "..1" / "file").touch()
    (at / "..data").symlink_to("..1")
    (at / "file").symlink_to("..data/file")
    return at / "file", {at, at / "..1"}


def links_through_three_directories(at: Path) -> tuple[Path, set[Path]]:
    for name in "abc":
        (at / name).mkdir()
    (at / "c" / "file").touch()
    (at / "b" / "file").symlink_to("../c/./file")
    (at / "a" / "file").symlink_to(at / "b" / "file")
    return at / "a" / "file", {at / "a", at / "b", at / "c"}


def linked_directory(at: Path) -> tuple[Path, set[Path]]:
    (at / "real").mkdir()
    (at / "real" / "file").touch()
    (at / "link").symlink_to("real")
    return at / "link" / ".." / "link" / "file", {at, at / "real"}


def dangling(at: Path) -> tuple[Path, set[Path]]:
    (at / "a").mkdir()
    (at / "a" / "file").symlink_to("../b/file")
    return at / "a" / "file", {at / "a", at}


def loop(at: Path) -> tuple[Path, set[Path]]:
    (at / "file").symlink_to("file")
    return at / "file", {at}


@pytest.mark.parametrize(
    "shape",
    [
        plain,
        missing,
        below_a_file,
        mounted_secret,
        links_through_three_directories,
        linked_directory,
        dangling,
        loop,
    ],
)
def test_what_decides_where_a_path_leads(tmp_path: Path, shape: Shapes) -> None:
    path, expected = shape(tmp_path)
    assert places(path) == expected


def test_the_root_has_nothing_above() -> None:
    assert places(Path("/")) == {Path("/")}


class Follower:
    """What is found in followed files, at each look."""

    def __init__(self, *paths: Path) -> None:
        self.seen: asyncio.Queue[str] = asyncio.Queue()
        self._paths = paths
        self.task = asyncio.create_task(follow(paths, self._look))

    async def _look(self) -> None:
        self.seen.put_nowait("".join(path.read_text() if path.is_file() else "-" for path in self._paths))

    async def finds(self, content: str) -> None:
        async with asyncio.timeout(30):
            while await self.seen.get() != content:
                pass


@pytest.fixture
async def following() -> AsyncIterator[Callable[..., Follower]]:
    made: list[Follower] = []

    def start(*paths: Path) -> Follower:
        made.append(Follower(*paths))
        return made[-1]

    yield start
    for follower in made:
        follower.task.cancel()
        await asyncio.wait([follower.task])


async def test_every_exchange_is_noticed(tmp_path: Path, following: Callable[..., Follower]) -> None:
    inner = tmp_path / "a" / "b"
    file = inner / "file"
    follower = following(file)
    await follower.finds("-")
    inner.mkdir(parents=True)
    file.write_text("made")
    await follower.finds("made")
    (tmp_path / "other").write_text("renamed")
    (tmp_path / "other").rename(file)
    await follower.finds("renamed")
    (tmp_path / "elsewhere").write_text("linked")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").rename(file)
    await follower.finds("linked")
    (tmp_path / "elsewhere").write_text("target written")
    await follower.finds("target written")
    file.unlink()
    await follower.finds("-")
    inner.rename(tmp_path / "a" / "former")
    inner.mkdir()
    file.write_text("in another directory")
    await follower.finds("in another directory")


async def test_any_of_several_files_is_enough(tmp_path: Path, following: Callable[..., Follower]) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    one, two = tmp_path / "a" / "file", tmp_path / "b" / "file"
    follower = following(one, two)
    await follower.finds("--")
    two.write_text("2")
    await follower.finds("-2")
    one.write_text("1")
    await follower.finds("12")


async def test_what_cannot_be_watched_is_looked_at_now_and_then(
    tmp_path: Path,
    following: Callable[..., Follower],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def exhausted(*_: Any) -> None:
        raise OSError(errno.EMFILE, "no inotify instance left", "inotify")

    monkeypatch.setattr(followed_files, "DirectoryWatcher", exhausted)
    monkeypatch.setattr(followed_files, "UNWATCHED", 0.01)
    follower = following(tmp_path / "file")
    await follower.finds("-")
    (tmp_path / "file").write_text("there")
    await follower.finds("there")
    assert caplog.text.count("cannot be watched") == 1
