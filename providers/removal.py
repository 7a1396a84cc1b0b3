"""Removing a directory tree, whatever somebody hostile has made of it.

It exists because the trees that are removed belong to guests, who may make them deeper than a stack, a path
or a table of descriptors is long, take all permissions from them, and put links to anywhere into them.
Directories are therefore not gone down into: each is moved up into the topmost one, and emptied there when
its turn comes. It must not know whose tree it is.
"""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Remove a directory with all in it, also what its owner may not read. Blocks for as long as it takes.

    No symbolic link is followed, and no other file system that is mounted in it is touched. Nothing is made:
    a full disk has no room for it. Raises OSError: NotADirectoryError for a link, too, and EBUSY or EXDEV
    where something is mounted. What is left then, or by a process that was killed, the next call removes.
    """
    _permit(path)
    top = os.open(path, _DIRECTORY)
    try:
        unique, moved = uuid.uuid4().hex, 0  # no name that a guest could have taken
        for entry in _directories(top):
            moved = _empty(entry, top, unique, moved)
    finally:
        os.close(top)
    os.rmdir(path)  # noqa: PTH106  the same call as the others


def remove(path: Path) -> None:
    """Remove a file, or a directory with all in it; nothing if it is gone. Blocks. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink()


def _empty(name: str, top: int, unique: str, moved: int) -> int:
    """Remove a directory in `top`; those in it are moved up, by numbers: returns that of the next one."""
    _permit(name, top)
    directory = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        for entry in _directories(directory):
            _permit(entry, directory)
            os.rename(entry, f"{unique}.{moved}", src_dir_fd=directory, dst_dir_fd=top)
            moved += 1
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=top)
    return moved


def _directories(parent: int) -> Iterator[str]:
    """Unlink all but directories, and give those, which whoever asks takes away, until nothing is left."""
    found = True
    while found:
        found = False  # a directory that changes while it is read may not tell all at once
        with os.scandir(parent) as entries:
            for entry in entries:
                found = True
                if entry.is_dir(follow_symlinks=False):
                    yield entry.name
                    continue
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.name, dir_fd=parent)


def _permit(path: Path | str, parent: int | None = None) -> None:
    """Let the owner of a directory, who must be we, have all permissions. A link is none."""
    directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.fstat(directory).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            # By its descriptor: fchmod(2) takes none of these, and a path may be another's by now.
            os.chmod(f"/proc/self/fd/{directory}", stat.S_IRWXU)  # noqa: PTH101
    finally:
        os.close(directory)
