"""How much a directory tree takes on its disk, whatever somebody hostile has made of it.

It exists because the trees that are measured belong to guests, who may change them meanwhile: the walk
follows no symbolic link, not even one that takes a directory's place under it, never leaves the file system
of its root, takes two descriptors however deep it goes, and has an end. It must not know whose tree it is.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

MAX_ENTRIES = 200_000
"""Entries that one walk looks at: some tenths of a second. What lies behind them is not counted."""

_BLOCK = 512
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclasses.dataclass(frozen=True, slots=True)
class DiskUsage:
    """Allocated bytes, and inodes, the root directory's own among them."""

    size: int
    inodes: int


def disk_usage(root: Path, *, max_entries: int = MAX_ENTRIES) -> DiskUsage | None:
    """What `du` says of a tree; None if there is none. Blocks for as long as the walk takes.

    Of a tree beyond the limit it is a lower bound. What vanishes or is moved on the way, or cannot be opened,
    is left out; a file with several links counts once.
    """
    try:
        walk = _Walk(root)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        own = os.fstat(walk.directory)
        size, inodes, linked = own.st_blocks * _BLOCK, 1, set[int]()
        while max_entries > 0:
            below = []
            with os.scandir(walk.directory) as entries:
                for entry in entries:
                    max_entries -= 1
                    if max_entries < 0:
                        break
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if found.st_dev != own.st_dev or found.st_ino in linked:
                        continue
                    size += found.st_blocks * _BLOCK
                    inodes += 1
                    if stat.S_ISDIR(found.st_mode):
                        below.append(entry.name)
                    elif found.st_nlink > 1:
                        linked.add(found.st_ino)
            steps = walk.go_on(below, max_entries)
            if steps is None:
                break
            max_entries -= steps
    finally:
        walk.close()
    return DiskUsage(size, inodes)


@dataclasses.dataclass(slots=True)
class _Level:
    """A directory that the walk is in or below of, and those in it that are still to be visited."""

    name: str
    identity: tuple[int, int]
    left: list[str] = dataclasses.field(default_factory=list)


class _Walk:
    """The way through the directories of a tree: an open one, and the names of those above it."""

    def __init__(self, root: Path) -> None:
        """Raises OSError; a symbolic link is no root."""
        self._root = os.open(root, _DIRECTORY)
        self.directory = os.dup(self._root)
        self._levels = [_Level("", _identity(self._root))]

    def close(self) -> None:
        os.close(self.directory)
        os.close(self._root)

    def go_on(self, below: list[str], max_steps: int) -> int | None:
        """Open the next directory to visit: one of those `below` this one, or else of those beside it.

        Returns how many were opened on the way; None if all were visited, or it would be more than that.
        """
        self._levels[-1].left = below
        steps = 0
        while steps < max_steps:
            level = self._levels[-1]
            if level.left:
                name = level.left.pop()
                steps += 1
                if self._enter(name):
                    self._levels.append(_Level(name, _identity(self.directory)))
                    return steps
                continue
            self._levels.pop()
            if not self._levels:
                break
            steps += 1
            if not self._enter("..", self._levels[-1].identity):
                steps += self._enter_again()  # it was moved away, with us in it
        return None

    def _enter_again(self) -> int:
        """Go from the root to the last of the levels, or of those that are in their places.

        Returns how many were opened.
        """
        self._to(os.dup(self._root))
        for depth, level in enumerate(self._levels[1:], 1):
            if not self._enter(level.name, level.identity):
                del self._levels[depth:]
                break
        return len(self._levels)

    def _enter(self, name: str, identity: tuple[int, int] | None = None) -> bool:
        """Go to a directory, unless it is gone, is none or another one by now, or was made unreadable."""
        try:
            directory = os.open(name, _DIRECTORY, dir_fd=self.directory)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False
        if identity is not None and _identity(directory) != identity:
            os.close(directory)
            return False
        self._to(directory)
        return True

    def _to(self, directory: int) -> None:
        os.close(self.directory)
        self.directory = directory


def _identity(directory: int) -> tuple[int, int]:
    found = os.fstat(directory)
    return found.st_dev, found.st_ino
