"""A directory that is being filled by names which somebody else has chosen, and that none of them leaves.

It exists to hold what may be made, replaced and removed in it, and by which layer. It must not know archives.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence

from oci.ingest import write
from oci.layers.errors import LayerError
from oci.layers.walk import DIRECTORY, Walk, check_name, check_path, walking

_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LATEST = 2**33 * 10**9
"""Nanoseconds since the epoch: what file systems can keep."""
_NO_ID = 2**32 - 1

_NOWHERE = (FileNotFoundError, NotADirectoryError, LayerError)

Key = tuple[int, str]
"""A name in a directory, which is told by its inode's number."""


class Tree:
    """The directory, open as `root`. What one layer has made is remembered until `begin_layer`.

    Every name is a list of its parts, none of which is `..`. Owners are kept where the node may give files
    away. Raises OSError besides what is said.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._own: set[Key] = set()
        self._times: dict[tuple[str, ...], int] = {}
        self._gives_away = os.geteuid() == 0

    def begin_layer(self) -> None:
        """What is there is of the layers below from now on."""
        self._own.clear()

    def finish(self) -> None:
        """Give the directories their times, which everything that was made in them has changed."""
        for parts, mtime in self._times.items():
            # Since then it may have become a link, to nowhere or to another directory.
            with walking(self._root) as walk, contextlib.suppress(*_NOWHERE):
                walk.go(parts)
                if walk.names == [*parts]:
                    os.utime(walk.directory, ns=(mtime, mtime))

    def directory(self, parts: Sequence[str], mode: int, uid: int, gid: int, mtime: int) -> None:
        """Make a directory, or give one that is there already what this one has."""
        if parts:
            with self._parent(parts) as (place, name):
                parent, real = place.directory, (*place.names, name)
                found = _status(name, parent)
                if found is not None and not stat.S_ISDIR(found.st_mode):
                    self._remove(name, parent)
                    found = None
                if found is None:
                    os.mkdir(name, 0o700, dir_fd=parent)
                opened = os.open(name, DIRECTORY, dir_fd=parent)
        else:
            opened, real = os.dup(self._root), ()
        try:
            self._describe(opened, mode | stat.S_IRWXU, uid, gid)
        finally:
            os.close(opened)
        self._times[real] = _time(mtime)

    def file(
        self, parts: Sequence[str], content: Iterable[bytes], mode: int, uid: int, gid: int, mtime: int
    ) -> None:
        """Make a regular file."""
        with self._parent(parts) as (place, name):
            parent = place.directory
            self._remove(name, parent)
            with io.FileIO(os.open(name, _FILE, 0o600, dir_fd=parent), "wb") as file:
                for piece in content:
                    write(file, piece)
                self._describe(file.fileno(), mode | stat.S_IRUSR, uid, gid)
                os.utime(file.fileno(), ns=(_time(mtime), _time(mtime)))

    def symbolic_link(self, parts: Sequence[str], target: str, uid: int, gid: int, mtime: int) -> None:
        """Make a link, whose target is nobody's business before it is followed."""
        with self._parent(parts) as (place, name):
            parent = place.directory
            self._remove(name, parent)
            os.symlink(target, name, dir_fd=parent)
            owner = _id(uid), _id(gid)
            if self._gives_away:
                os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
            os.utime(name, ns=(_time(mtime), _time(mtime)), dir_fd=parent, follow_symlinks=False)

    def hard_link(self, parts: Sequence[str], target: Sequence[str]) -> None:
        """Give what is at `target`, and is no directory, another name. Raises LayerError."""
        text = "/".join(target)
        with self._parent(parts) as (place, name), walking(self._root) as walk:
            parent = place.directory
            try:
                walk.go(target[:-1])
                found = _status(target[-1], walk.directory) if target else None
            except (FileNotFoundError, NotADirectoryError):
                found = None
            if found is None:
                raise LayerError(f"a hard link to {text!r}, which is not there")
            if stat.S_ISDIR(found.st_mode):
                raise LayerError(f"a hard link to {text!r}, a directory")
            if name == target[-1] and os.path.sameopenfile(parent, walk.directory):
                raise LayerError("a hard link to itself")
            there = _status(name, parent)
            if there is not None and stat.S_ISDIR(there.st_mode) and there.st_ino in _inodes(walk):
                raise LayerError(f"a hard link in the place of a directory that {text!r} is in")
            self._remove(name, parent)
            os.link(target[-1], name, src_dir_fd=walk.directory, dst_dir_fd=parent, follow_symlinks=False)

    def nothing(self, parts: Sequence[str]) -> None:
        """Have nothing of that name: what was to be there cannot be made."""
        with self._parent(parts) as (place, name):
            parent = place.directory
            self._remove(name, parent)

    def hide(self, parts: Sequence[str]) -> None:
        """Remove what the layers below have of that name."""
        with walking(self._root) as walk, contextlib.suppress(FileNotFoundError, NotADirectoryError):
            walk.go(parts[:-1])
            self._hide(parts[-1], walk.directory)

    def hide_content(self, parts: Sequence[str]) -> None:
        """Remove what the layers below have in a directory."""
        with walking(self._root) as walk, contextlib.suppress(FileNotFoundError, NotADirectoryError):
            walk.go(parts)
            for name in os.listdir(walk.directory):  # noqa: PTH208  by its descriptor
                self._hide(name, walk.directory)

    def _hide(self, name: str, parent: int) -> None:
        found = _status(name, parent)
        if found is None:
            return
        if (os.fstat(parent).st_ino, name) not in self._own:
            self._remove(name, parent)
        elif stat.S_ISDIR(found.st_mode):
            opened = os.open(name, DIRECTORY, dir_fd=parent)
            try:
                for below in os.listdir(opened):  # noqa: PTH208  by its descriptor
                    self._hide(below, opened)
            finally:
                os.close(opened)

    @contextlib.contextmanager
    def _parent(self, parts: Sequence[str]) -> Iterator[tuple[Walk, str]]:
        """The directory in which a name is to be made, which is made if need be, and the name's last part."""
        with walking(self._root) as walk:
            try:
                walk.go(parts[:-1], create=True)
            except NotADirectoryError as error:
                raise LayerError(f"it lies in {error.filename!r}, which is no directory") from error
            name = parts[-1]
            check_name(name)
            check_path([*walk.names, name])
            self._own.update(zip(_inodes(walk), [*walk.names, name], strict=True))
            yield walk, name

    def _remove(self, name: str, parent: int) -> None:
        found = _status(name, parent)
        if found is None:
            return
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)

    def _describe(self, opened: int, mode: int, uid: int, gid: int) -> None:
        owner = _id(uid), _id(gid)
        if self._gives_away:
            os.fchown(opened, *owner)
        # No file of an image is to have more rights on the node than whoever opens it.
        os.fchmod(opened, mode & (stat.S_ISVTX | 0o777))


def _inodes(walk: Walk) -> list[int]:
    """The numbers of the directories on the way, the root's first."""
    return [os.fstat(each).st_ino for each in walk.opened]


def _status(name: str, parent: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _time(mtime: int) -> int:
    return min(max(mtime, 0), _LATEST)


def _id(number: int) -> int:
    if not 0 <= number < _NO_ID:
        raise LayerError(f"{number} is the number of no user or group")
    return number
