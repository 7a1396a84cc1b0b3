"""Opening a file of a guest's file system from outside, without being led out of it.

It exists because a guest makes links as it likes: a path inside its directories is followed by the kernel
with that directory as the root, in one call, so that neither `..` nor a link nor a rename in between leads
elsewhere. It must not know what is opened or why.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterable
from pathlib import Path

_SYS_OPENAT2 = 437
"""The same number on every architecture (Linux 5.6 and later)."""
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RESOLVE_IN_ROOT = 0x10


class _OpenHow(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in_root(root: Path, path: str, flags: int) -> int:
    """A descriptor of `path` as a process with the root directory `root` would open it. Raises OSError.

    The descriptor is closed on exec. A path with a NUL in it raises OSError as well.
    """
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _open(directory, path, flags, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    finally:
        os.close(directory)


def first_in_root(root: Path, paths: Iterable[str]) -> str | None:
    """The first of `paths` that there may be, seen as `open_in_root` would; None if there surely is none.

    Nothing is opened that may have to be waited for, as long as the file system of `root` answers.
    """
    directory = -1
    try:
        for path in paths:
            if directory < 0:
                directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.close(_open(directory, path, os.O_PATH, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                return path
            return path
    except OSError:
        return path
    finally:
        if directory >= 0:
            os.close(directory)
    return None


def open_beneath(directory: int, path: str, flags: int, *, follow: bool = True) -> int:
    """A descriptor of `path` in an open directory; what leads out of it raises OSError (EXDEV).

    Without `follow`, any symbolic link on the way does too (ELOOP). Else as `open_in_root`.
    """
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS
    return _open(directory, path, flags, resolve if follow else resolve | _RESOLVE_NO_SYMLINKS)


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _open(directory: int, path: str, flags: int, resolve: int) -> int:
    if "\0" in path:
        raise OSError(22, os.strerror(22), path)
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    descriptor: int = _library().syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(directory),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return descriptor
