"""A container's log on disk: reading it block by block, and finding the file that follows a rotated one.

It exists to hold every blocking call of log reading, so that all of them run in threads. It must know
neither the event loop nor what the bytes mean.

The writer rotates `N.log` by renaming it to `N.log.TIME` and making a new `N.log`; it then never touches
the old one again. A reader keeps its file open across the rename, and reads it to the end once it has
seen a new `N.log`.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import re
import stat
import threading
from pathlib import Path

from vkubelet.server.cri_log import tail_offset

# Bytes that are read at once, and then wait for the client. Handing a block from one thread to another costs
# a tenth of what sending it does; a follower holds two in memory.
BLOCK = 512 * 1024


class Place(enum.Enum):
    """What has become of a log's file."""

    CURRENT = enum.auto()
    ROTATED = enum.auto()
    REMOVED = enum.auto()


class LogFile:
    """One open file of a log. `close` may be called while another thread reads."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        """Open the log's current file, `path`, or the rotated file `name` beside it. Raises OSError."""
        self._path = path
        opened = path if name is None else path.with_name(name)
        # The directory may be a container's user's: a link in the place of a log must not be followed, and a
        # FIFO must not hang the thread that opens it.
        descriptor = os.open(opened, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file", str(opened))
        self._descriptor: int | None = descriptor
        self._inode = status.st_ino
        self._offset = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close it, after a read that is under way."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def seek_tail(self, lines: int) -> None:
        """Go to where the file's last `lines` lines begin."""
        with self._lock:
            if self._descriptor is not None:
                size = os.fstat(self._descriptor).st_size
                self._offset = tail_offset(self._read_at, size, lines)

    def read(self) -> bytes:
        """The next block; less than BLOCK bytes mean that the end was reached, for now."""
        with self._lock:
            data = self._read_at(self._offset, BLOCK)
            self._offset += len(data)
            return data

    def place(self) -> Place:
        """Where this file is in its log now; if it is not CURRENT, nothing more is written to it."""
        with self._lock:
            if self._descriptor is None or os.fstat(self._descriptor).st_nlink == 0:
                return Place.REMOVED
        try:
            return Place.CURRENT if self._path.stat().st_ino == self._inode else Place.ROTATED
        except FileNotFoundError:
            return Place.CURRENT  # as far as can be known: its writer has not begun a new one

    def successor(self) -> LogFile | None:
        """Open the file that was begun after this one; None if there is none (yet).

        A slow reader may be several rotations behind, and the writer goes on meanwhile: what was opened
        by name is only taken if it is still next when looked at again. Files that were already removed are
        passed over. Raises OSError.
        """
        while True:
            following = self._following()
            if following is None:
                return None
            try:
                candidate = LogFile(self._path, following[0])
            except FileNotFoundError:
                continue
            if self._following_inode() == candidate._inode:
                return candidate
            candidate.close()

    def _read_at(self, offset: int, length: int) -> bytes:
        return b"" if self._descriptor is None else os.pread(self._descriptor, length, offset)

    def _following_inode(self) -> int | None:
        following = self._following()
        return None if following is None else following[1]

    def _following(self) -> tuple[str, int] | None:
        """Name and inode of the log's file after this one, by the times in their names."""
        current = self._path.name
        files: list[tuple[tuple[int, ...], str, int]] = []
        try:
            names = [file.name for file in self._path.parent.iterdir()]
        except FileNotFoundError:
            return None
        for name in names:
            order = rotation_order(current, name)
            if order is not None:
                with contextlib.suppress(FileNotFoundError):  # renamed or removed since it was listed
                    files.append((order, name, self._path.with_name(name).stat().st_ino))
        files.sort()
        inodes = [inode for _, _, inode in files]
        position = inodes.index(self._inode) + 1 if self._inode in inodes else 0
        return files[position][1:] if position < len(files) else None


_SUFFIX = re.compile(r"\.\d{8}-\d{6}(?:\.\d+)?", re.ASCII)


def rotation_order(current: str, name: str) -> tuple[int, ...] | None:
    """What sorts the files of the log `current` from old to new; None if `name` is none of them.

    `current` itself is the newest. Files rotated within one second carry one more number.
    """
    if name == current:
        return (10**9,)
    if not name.startswith(current) or not _SUFFIX.fullmatch(name, len(current)):
        return None
    return tuple(int(number) for number in re.findall(r"\d+", name[len(current) :]))
