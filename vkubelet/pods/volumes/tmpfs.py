"""File systems in memory: whether a directory is on one, and mounting one there.

It exists because secrets and emptyDirs of medium Memory belong into memory, and whether a node may mount
anything depends on who it runs as. It must not know what the directories are for.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

# Once: it is a class of its own each time, which only the collector of cycles removes.
_libc = ctypes.CDLL(None, use_errno=True)
_MAGICS = frozenset({0x01021994, 0x858458F6})
"""f_type of tmpfs and ramfs (statfs(2))."""
_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_DETACH = 2
"""MNT_DETACH of umount2(2): whoever has a file of it open keeps it until he closes it."""


class _Statfs(ctypes.Structure):
    """The first field of struct statfs, and room for the rest."""

    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_long * 31))


def is_in_memory(directory: Path) -> bool:
    """Whether the directory's content is never on a disk (swap aside). Raises OSError."""
    found = _Statfs()
    _call("statfs", directory, os.fsencode(directory), ctypes.byref(found))
    return found.f_type in _MAGICS


def mount(directory: Path, *, size: int | None = None, mode: int = 0o700) -> None:
    """Mount a tmpfs, of at most `size` bytes (None: what the kernel gives). Raises OSError.

    It is kept out of swap where the kernel can do that (Linux 6.4).
    """
    options = f"mode={mode:04o}" if size is None else f"mode={mode:04o},size={size}"
    try:
        _mount(directory, f"{options},noswap")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _mount(directory, options)


def unmount(directory: Path) -> None:
    """Take a mount away; whoever still uses it keeps it. Raises OSError."""
    _call("umount2", directory, os.fsencode(directory), _DETACH)


def _mount(directory: Path, options: str) -> None:
    _call(
        "mount",
        directory,
        b"tmpfs",
        os.fsencode(directory),
        b"tmpfs",
        ctypes.c_ulong(_NOSUID_NODEV_NOEXEC),
        options.encode(),
    )


def _call(function: str, directory: Path, *arguments: object) -> None:
    """A function of the C library that returns 0, or says by errno why not."""
    if getattr(_libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(directory))
