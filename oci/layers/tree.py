"""A directory that is being filled by names which somebody else has chosen, and that none of them leaves.

It exists so that no name, link or mixture of both reaches a file outside: each part of a path is opened in
the directory before it without following links, and a link's target is walked the same way, with the
directory as its root, as a process would find it that has that root. It must not know archives.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence

from oci.layers.errors import LayerError, LimitError

MAXIMUM_PATH = 2048
"""Bytes of a path below the root, so that it is one for the kernel wherever the root is (PATH_MAX: 4096)."""
MAXIMUM_NAME = 255
"""Bytes of a part of a path (NAME_MAX)."""
MAXIMUM_DEPTH = 256
"""Directories in each other: as many descriptors are open on the way."""
MAXIMUM_LINKS = 40
"""Symbolic links on the way to a file, as Linux follows them (path_resolution(7))."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LATEST = 2**33 * 10**9
"""Nanoseconds since the epoch: what file systems can keep."""
_NO_ID = 2**32 - 1

_NOWHERE = (FileNotFoundError, NotADirectoryError, LayerError)

Key = tuple[int, str]
"""A name in a directory, which is told by its inode's number."""


class Walk:
    """The way to a directory: those above it stay open, so that `..` leads back to them and no further."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._opened: list[int] = []
        self.names: list[str] = []
        self._links = 0

    @property
    def opened(self) -> list[int]:
        """The descriptors of the directories on the way, the root's first."""
        return [self._root, *self._opened]

    @property
    def directory(self) -> int:
        """The descriptor of where it has come to."""
        return self._opened[-1] if self._opened else self._root

    def back_to_root(self) -> None:
        """Begin anew, and close what was opened."""
        self._back_to(0)

    def go(self, parts: Iterable[str], *, create: bool = False) -> None:
        """Enter these one after the other, through links; with `create`, make what is missing.

        Raises FileNotFoundError, NotADirectoryError, LayerError.
        """
        left = list(parts)[::-1]
        while left:
            part = left.pop()
            if part in ("", "."):
                continue
            if part == "..":
                self._back_to(max(0, len(self._opened) - 1))
                continue
            target = self._enter(part, create=create)
            if target is not None:
                if target.startswith("/"):
                    self.back_to_root()
                left += target.split("/")[::-1]

    def link(self, name: str) -> str | None:
        """The target of a symbolic link in the directory; None if there is no link of that name."""
        try:
            target = os.readlink(name, dir_fd=self.directory)
        except OSError:
            return None
        self._links += 1
        if self._links > MAXIMUM_LINKS:
            raise LayerError(f"more than {MAXIMUM_LINKS} symbolic links in one path: {name!r}")
        return target

    def _enter(self, name: str, *, create: bool) -> str | None:
        """Go into a directory, or give the target of the link that is there instead."""
        check_name(name)
        try:
            opened = os.open(name, _DIRECTORY, dir_fd=self.directory)
        except NotADirectoryError:
            target = self.link(name)
            if target is None:
                raise
            return target
        except FileNotFoundError:
            if not create:
                raise
            os.mkdir(name, 0o755, dir_fd=self.directory)
            opened = os.open(name, _DIRECTORY, dir_fd=self.directory)
            os.fchmod(opened, 0o755)
        self._opened.append(opened)
        self.names.append(name)
        if len(self._opened) > MAXIMUM_DEPTH:
            raise LimitError(f"more than {MAXIMUM_DEPTH} directories in each other")
        check_path(self.names)
        return None

    def _back_to(self, depth: int) -> None:
        while len(self._opened) > depth:
            os.close(self._opened.pop())
            self.names.pop()


def check_name(name: str) -> None:
    """Raise LimitError for a part of a path that no file system takes."""
    if len(os.fsencode(name)) > MAXIMUM_NAME:
        raise LimitError(f"{name[:60]!r}...: a name of more than {MAXIMUM_NAME} bytes")


def check_path(names: Sequence[str]) -> None:
    """Raise LimitError for a path that would be too long."""
    size = sum(len(os.fsencode(name)) + 1 for name in names)
    if size > MAXIMUM_PATH:
        shown = "/".join(names)[:200]
        raise LimitError(f"{shown!r}...: a path of {size} bytes, more than {MAXIMUM_PATH}")


@contextlib.contextmanager
def walking(root: int) -> Iterator[Walk]:
    """A walk from the directory that is open as `root`."""
    walk = Walk(root)
    try:
        yield walk
    finally:
        walk.back_to_root()


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
                opened = os.open(name, _DIRECTORY, dir_fd=parent)
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
            opened = os.open(name, _FILE, 0o600, dir_fd=parent)
            try:
                for piece in content:
                    _write(opened, piece)
                self._describe(opened, mode | stat.S_IRUSR, uid, gid)
                os.utime(opened, ns=(_time(mtime), _time(mtime)))
            finally:
                os.close(opened)

    def symbolic_link(self, parts: Sequence[str], target: str, uid: int, gid: int, mtime: int) -> None:
        """Make a link, whose target is nobody's business before it is followed."""
        with self._parent(parts) as (place, name):
            parent = place.directory
            self._remove(name, parent)
            os.symlink(target, name, dir_fd=parent)
            if self._gives_away:
                os.chown(name, _id(uid), _id(gid), dir_fd=parent, follow_symlinks=False)
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
            opened = os.open(name, _DIRECTORY, dir_fd=parent)
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
        if self._gives_away:
            os.fchown(opened, _id(uid), _id(gid))
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


def _write(opened: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(opened, left) :]


def _time(mtime: int) -> int:
    return min(max(mtime, 0), _LATEST)


def _id(number: int) -> int:
    if not 0 <= number < _NO_ID:
        raise LayerError(f"{number} is the number of no user or group")
    return number
