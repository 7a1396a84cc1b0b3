"""Removing trees that a guest has made so that they are hard to remove."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from trees import dig

from providers.removal import remove_tree

# As a user whom modes bind, which they do not if it is root.
AS_NOBODY = """
import os, sys
from pathlib import Path
from providers.removal import remove_tree
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
remove_tree(Path(sys.argv[1]))
"""


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A directory to fill and remove."""
    path = tmp_path / "tree"
    path.mkdir()
    yield path
    subprocess.run(["rm", "-rf", path], check=True)  # pytest could not


@pytest.fixture
def anybodys() -> Iterator[Path]:
    """A directory that the user of AS_NOBODY may use."""
    path = Path(tempfile.mkdtemp(prefix="vkubelet-test-", dir="/tmp"))
    if os.getuid() == 0:
        os.chown(path, 65534, 65534)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_tree_deeper_than_any_stack(tree: Path) -> None:
    dig(tree, 3000)
    before = descriptors()
    remove_tree(tree)
    assert not tree.exists()
    assert descriptors() <= before


def test_a_tree_with_paths_longer_than_a_path_can_be(tree: Path) -> None:
    dig(tree, 50, "n" * 255)
    remove_tree(tree)
    assert not tree.exists()


def test_a_wide_tree_and_everything_that_can_be_in_it(tree: Path) -> None:
    for number in range(300):
        (tree / f"{number}").mkdir()
        (tree / f"{number}" / "below").mkdir()
        (tree / f"{number}" / "below" / "file").touch()
    os.mkfifo(tree / "pipe")
    (tree / "dangling").symlink_to("nowhere")
    os.mkdir(os.fsencode(tree) + b"/not \xff text")  # noqa: PTH102  no path of text is this
    remove_tree(tree)
    assert not tree.exists()


def test_names_of_our_own_are_not_in_the_way(tree: Path) -> None:
    for number in range(3):
        (tree / "a" / f"{number}" / "0" / "1").mkdir(parents=True)
        (tree / f"{number}").touch()
    remove_tree(tree)
    assert not tree.exists()


def test_a_disk_on_which_nothing_can_be_made(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    dig(tree, 10)
    (tree / "file").touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", mkdir)
        remove_tree(tree)
    assert not tree.exists()


def test_links_are_removed_and_not_followed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o500)
    (tmp_path / "other" / "kept").touch()
    (tree / "a").mkdir()
    (tree / "a" / "directory").symlink_to(tmp_path / "other")
    (tree / "a" / "file").symlink_to(tmp_path / "other" / "kept")
    remove_tree(tree)
    assert not tree.exists()
    assert (tmp_path / "other" / "kept").exists()
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o500


def test_what_is_no_directory_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(NotADirectoryError):
            remove_tree(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        remove_tree(tmp_path / "none")
    assert tree.exists()


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o400, 0o500])
def test_modes_that_keep_their_owner_out(anybodys: Path, mode: int) -> None:
    tree = anybodys / "tree"
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "a" / "b" / "file").touch(mode=0o000)
    for directory in (tree / "a" / "b" / "c", tree / "a" / "b", tree / "a", tree):
        if os.getuid() == 0:
            os.chown(directory, 65534, 65534)
        directory.chmod(mode)
    subprocess.run([sys.executable, "-c", AS_NOBODY, tree], check=True)
    assert list(anybodys.iterdir()) == []


def test_a_removal_that_was_cut_off_is_done_by_the_next(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dig(tree, 10)
    rmdir, removed = os.rmdir, []

    def stop(path: str, *, dir_fd: int | None = None) -> None:
        if len(removed) == 5:
            raise KeyboardInterrupt
        removed.append(path)
        rmdir(path, dir_fd=dir_fd)

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", stop)
        with pytest.raises(KeyboardInterrupt):
            remove_tree(tree)
    assert descriptors() <= before
    remove_tree(tree)
    assert not tree.exists()


def test_a_tree_that_changes_meanwhile(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):  # what was taken from under our hands is made anew
                (tree / "inside").mkdir(parents=True, exist_ok=True)
                (tree / "inside" / "swapped").mkdir()
                (tree / "inside" / "swapped").rmdir()
                (tree / "inside" / "swapped").symlink_to(tmp_path / "outside")
                (tree / "inside" / "swapped").unlink()

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(1000):
            with contextlib.suppress(OSError):  # more has come, or there is nothing
                remove_tree(tree)
    finally:
        over.set()
        swapping.join()
    assert (tmp_path / "outside" / "kept").exists()
    tree.mkdir(exist_ok=True)
    remove_tree(tree)
    assert not tree.exists()
