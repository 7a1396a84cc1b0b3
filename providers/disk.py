"""How much a directory tree takes on its disk, whatever somebody hostile has made of it.

It exists because the trees that are measured belong to guests, who may change them meanwhile: the walk
follows no symbolic link, not even one that takes a directory's place under it, leaves the file system of its
root never, and has an end. It must not know whose tree it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
from pathlib import Path

MAX_ENTRIES = 200_000
"""Entries that one walk looks at: some tenths of a second. What lies behind them is not counted."""
MAX_DEPTH = 128
"""Directories that one walk goes down, each of which holds a file descriptor meanwhile."""

_BLOCK = 512
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclasses.dataclass(frozen=True, slots=True)
class DiskUsage:
    """Allocated bytes, and inodes, the root directory's own among them."""

    size: int
    inodes: int


def disk_usage(root: Path, *, max_entries: int = MAX_ENTRIES, max_depth: int = MAX_DEPTH) -> DiskUsage | None:
    """What `du` says of a tree; None if there is none. Blocks for as long as the walk takes.

    Of a tree beyond the limits it is a lower bound. What vanishes on the way, or cannot be opened, is left
    out; a file with several links counts once.
    """
    try:
        top = _Level(root)
    except (FileNotFoundError, NotADirectoryError):
        return None
    levels = [top]
    try:
        own = os.fstat(top.descriptor)
        size, inodes, linked = own.st_blocks * _BLOCK, 1, set[int]()
        while levels and max_entries > 0:
            entry = next(levels[-1].entries, None)
            if entry is None:
                levels.pop().close()
                continue
            max_entries -= 1
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if found.st_dev != own.st_dev or found.st_ino in linked:
                continue
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                linked.add(found.st_ino)
            size += found.st_blocks * _BLOCK
            inodes += 1
            if stat.S_ISDIR(found.st_mode) and len(levels) < max_depth:
                # It may be gone, be no directory any more, or have been made unreadable.
                with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                    levels.append(_Level(entry.name, levels[-1].descriptor))
    finally:
        for level in levels:
            level.close()
    return DiskUsage(size, inodes)


class _Level:
    """An open directory of the walk."""

    def __init__(self, path: Path | str, parent: int | None = None) -> None:
        """`path` is relative to the open directory `parent`. Raises OSError; a symbolic link is none."""
        self.descriptor = os.open(path, _DIRECTORY, dir_fd=parent)
        try:
            self.entries = os.scandir(self.descriptor)
        except BaseException:
            os.close(self.descriptor)
            raise

    def close(self) -> None:
        self.entries.close()
        os.close(self.descriptor)
