"""Copying a tree of files that is never written, for somebody who may write the copy, or may not.

It exists because an image's files are on the node once, and in many containers. It must not know images. What
a copy costs: nothing but its names where files can be shared, which takes readers alone and one file system;
the same and a little where the file system can share what files hold (btrfs, XFS); else all of the bytes.
"""

# Paths are text here: an image has thousands of files.
# ruff: noqa: PTH101, PTH102, PTH115, PTH211

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

_CHUNK = 1 << 30
_NOT_LINKED = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}
"""Why a file may have no other name (link(2)): it is elsewhere, not ours, or has too many."""
_NOT_HERE = {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
"""Why two files may not be copied by their file system (copy_file_range(2))."""


def copy_tree(source: Path, target: Path, *, share: bool) -> None:
    """Have what is in `source` in the directory `target` too; what is there by a name already stays.

    With `share`, files are the same and must not be written through either name. Nothing may change in either
    meanwhile; what `target` holds must be the caller's own. Owners are kept where the node may give files
    away.
    Blocks for as long as it takes. Raises OSError.
    """
    _Copy(share=share).run(str(source), str(target))


class _Copy:
    def __init__(self, *, share: bool) -> None:
        self._share = share
        self._gives_away = os.geteuid() == 0
        self._known: dict[int, str] = {}

    def run(self, source: str, target: str) -> None:
        made: list[tuple[str, os.stat_result]] = []
        left = [""]
        while left:
            directory = left.pop()
            with os.scandir(f"{source}{directory}") as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    path = f"{target}{directory}/{entry.name}"
                    if stat.S_ISDIR(status.st_mode):
                        if self._directory(path):
                            made.append((path, status))
                            left.append(f"{directory}/{entry.name}")
                    else:
                        with contextlib.suppress(FileExistsError):
                            self._file(entry.path, path, status)
        # Afterwards, as everything that was made in them has changed their times.
        for path, status in reversed(made):
            self._describe(path, status)

    def _directory(self, path: str) -> bool:
        """Whether there is such a directory now, and no file instead."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return stat.S_ISDIR(os.lstat(path).st_mode)
        return True

    def _file(self, source: str, path: str, status: os.stat_result) -> None:
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(source), path)
            self._describe(path, status)
        elif not self._link(source, path, status):
            _copy_bytes(source, path)
            self._describe(path, status)
            if status.st_nlink > 1:
                self._known[status.st_ino] = path

    def _link(self, source: str, path: str, status: os.stat_result) -> bool:
        """Give the file, or the copy of it that there is under another name, this name too."""
        known = self._known.get(status.st_ino)
        if known is None:
            if not self._share:
                return False
            known = source
        try:
            os.link(known, path, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NOT_LINKED:
                raise
            return False
        return True

    def _describe(self, path: str, status: os.stat_result) -> None:
        if self._gives_away:
            os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(path, stat.S_IMODE(status.st_mode))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _copy_bytes(source: str, path: str) -> None:
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                while os.copy_file_range(reader, writer, _CHUNK):
                    pass
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                while os.sendfile(writer, reader, None, _CHUNK):
                    pass
        finally:
            os.close(writer)
    finally:
        os.close(reader)
