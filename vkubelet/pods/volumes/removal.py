"""Removing a pod's volume directories, whatever a guest has put into them or is mounted there.

It exists because this must end with nothing left and nothing else touched: a mount below is taken away before
anything is removed, so that no file of what was mounted there is. It must not know what the directories are.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from providers.removal import remove_tree
from vkubelet.pods.volumes import tmpfs

_ESCAPE = re.compile(rb"\\([0-7]{3})")


def remove(path: Path) -> None:
    """Remove the directory, if it is there, with all in it, unmounting first. Blocks. Raises OSError."""
    if not os.path.lexists(path):
        return
    for mount in mounts_below(path):
        tmpfs.unmount(mount)
    remove_tree(path)


def mounts_below(path: Path) -> list[Path]:
    """Where something is mounted at `path` or below it, the innermost first."""
    prefix = os.fsencode(path.resolve())
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        point = _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), line.split(b" ")[4])
        if point == prefix or point.startswith(prefix + b"/"):
            found.append(Path(os.fsdecode(point)))
    # Later lines lie on earlier ones.
    return found[::-1]
