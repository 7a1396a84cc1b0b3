"""Files of state, read with doubt, and set aside when they are not what was written.

It exists because a file of a node may have become anything: cut short, a directory, somebody else's. Whoever
reads it must say so in one line, and go on without it. It must not know what is in a file.
"""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

from providers.exhausted import lacking


class DamagedError(ValueError):
    """A file is not what was written there; the text says why, and not where."""


def read(path: Path | str, most: int | None = None, *, owned: bool = True) -> bytes:
    """A regular file's content, at most that many bytes of it. Raises FileNotFoundError, DamagedError.

    `owned` is whether it is damaged if it belongs to another user, or anybody can write it. Raises OSError
    when it is the machine that lacks something: then nobody knows what is in the file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _damaged(error) from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise DamagedError("is no regular file")
        if owned and found.st_uid != os.geteuid():
            raise DamagedError(f"belongs to user {found.st_uid}")
        if owned and found.st_mode & stat.S_IWOTH:
            raise DamagedError("can be written by anybody")
        return os.read(fd, found.st_size + 1 if most is None else most)
    except OSError as error:
        raise _damaged(error) from error
    finally:
        os.close(fd)


def _damaged(error: OSError) -> Exception:
    return error if lacking(error) else DamagedError(str(error.strerror).lower())


def set_aside(path: Path, directory: Path | None = None) -> Path:
    """Rename what cannot be used, so that it can still be looked at; where it is now. Raises OSError.

    That is in `directory`, or else beside it.
    """
    name = f"{path.name}.{uuid.uuid4().hex}" if directory is not None else f"{path.name}.corrupt"
    aside = (directory or path.parent) / name
    if directory is None and (path.is_dir() or aside.is_dir()):  # neither takes another's place
        aside = aside.with_name(f"{aside.name}.{uuid.uuid4().hex}")
    return path.rename(aside)


def replace(fresh: Path | str, path: Path | str) -> None:
    """os.replace, also in the place of a directory, which is set aside. Raises OSError."""
    try:
        os.replace(fresh, path)  # noqa: PTH105  whichever kind of path it is
    except IsADirectoryError:
        set_aside(Path(path))
        os.replace(fresh, path)  # noqa: PTH105
