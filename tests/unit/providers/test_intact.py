"""Files of state that have become something else: each is told of, and set aside without losing another."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from providers import intact


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert intact.read(path) == b"content"
    assert intact.read(path, 3) == b"con"
    with pytest.raises(FileNotFoundError):
        intact.read(tmp_path / "none")


def test_what_is_no_file_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("directory", "no regular file"), ("link", "too many levels"), ("pipe", "no regular")):
        with pytest.raises(intact.DamagedError, match=why):
            intact.read(tmp_path / name)


def test_a_file_that_nobody_can_read_now_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_none(path: Path, flags: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    monkeypatch.setattr(os, "open", open_none)
    with pytest.raises(OSError, match="Too many open files"):
        intact.read(tmp_path / "file")


def test_a_file_that_anybody_can_write_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.chmod(0o666)
    with pytest.raises(intact.DamagedError, match="can be written by anybody"):
        intact.read(path)
    assert intact.read(path, owned=False) == b"content"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.chown(path, 4242, 4242)
    with pytest.raises(intact.DamagedError, match="belongs to user 4242"):
        intact.read(path)
    assert intact.read(path, owned=False) == b"content"


@pytest.mark.parametrize("before", ["nothing", "file", "directory"])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_it_is_set_aside_whatever_was_before(tmp_path: Path, kind: str, before: str) -> None:
    path, earlier = tmp_path / "state", tmp_path / "state.corrupt"
    make(path, kind)
    make(earlier, before)
    aside = intact.set_aside(path)
    assert aside.parent == tmp_path
    assert aside.name.startswith("state.corrupt")
    assert not path.exists()
    assert aside.is_dir() == (kind == "directory")
    assert earlier.exists() or before == "nothing"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert intact.set_aside(aside, elsewhere).parent == elsewhere


def test_a_directory_gives_way_to_a_file(tmp_path: Path) -> None:
    fresh, path = tmp_path / "fresh", tmp_path / "state"
    fresh.write_bytes(b"new")
    make(path, "directory")
    intact.replace(fresh, path)
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] != []


def make(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_bytes(b"old")
    elif kind == "directory":
        path.mkdir()
        (path / "inside").write_bytes(b"old")
