"""A way through directories that somebody else has made, which leads out of none of them.

It exists so that no name, link or mixture of both reaches a file outside: each part of a path is opened in
the directory before it without following links, and a link's target is walked the same way, with the
directory as its root, as a process would find it that has that root. It must not know what is sought.
"""

from __future__ import annotations

import contextlib
import os
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

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a directory is opened, and no link to one."""


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
            opened = os.open(name, DIRECTORY, dir_fd=self.directory)
        except NotADirectoryError:
            target = self.link(name)
            if target is None:
                raise
            return target
        except FileNotFoundError:
            if not create:
                raise
            os.mkdir(name, 0o755, dir_fd=self.directory)
            opened = os.open(name, DIRECTORY, dir_fd=self.directory)
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
