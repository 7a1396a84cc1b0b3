"""Removing a pod's volume directories, whatever a guest has put into them or is mounted there.

It exists because this must end with nothing left and nothing else touched: a mount below is taken away before
anything is removed, so that no file of what was mounted there is. It must not know what the directories are.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

from providers.removal import remove_tree

_DETACH = 2
"""MNT_DETACH of umount2(2): a container that still ends cannot keep the mount."""
_ESCAPE = re.compile(rb"\\([0-7]{3})")


def remove(path: Path) -> None:
    """Remove the directory, if it is there, with all in it, unmounting first. Blocks. Raises OSError."""
    if not os.path.lexists(path):
        return
    for mount in mounts_below(path):
        unmount(mount)
    remove_tree(path)


def mounts_below(path: Path) -> list[Path]:
    """Where something is mounted at `path` or below it, the innermost first."""
    prefix = os.fsencode(path)
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        point = _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), line.split(b" ")[4])
        if point == prefix or point.startswith(prefix + b"/"):
            found.append(Path(os.fsdecode(point)))
    # Later lines lie on earlier ones.
    return found[::-1]


def unmount(path: Path) -> None:
    """Take a mount away. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.umount2(os.fsencode(path), _DETACH) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
