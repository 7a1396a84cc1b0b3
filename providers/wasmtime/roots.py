"""Root directories that begin with a template's files: on a disk, as they may be large or the template's.

    ROOTS_DIR/RUN/ID/             a container's, to which RUN_DIR/containers/ID/rootfs is a link
    RUN_DIR/containers/ID/begun   what it took before the guest ran: not its doing

RUN tells the nodes of one machine apart. It exists because the run directory is best in memory. It must not
know containers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from providers.disk import DiskUsage, disk_usage
from providers.removal import remove_tree


class Roots:
    """The directories of one run directory; without a place for them they are in it."""

    def __init__(self, place: Path | None, run_dir: Path) -> None:
        run = hashlib.sha256(os.fsencode(run_dir)).hexdigest()[:12]
        self._path = None if place is None else place / run

    def open(self) -> None:
        """Make the directory. Raises OSError."""
        if self._path is not None:
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def place(self, root: Path, container_id: str) -> Path:
        """Where the directory that is known as `root` is to be made. Raises OSError."""
        if self._path is None:
            return root
        root.symlink_to(self._path / container_id)
        return self._path / container_id

    def all(self) -> list[Path]:
        """Each has its container's id as its name. Raises OSError."""
        return [] if self._path is None else list(self._path.iterdir())

    def remove(self, container_id: str) -> None:
        """Remove the one of a container, if it has one. Raises OSError."""
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                remove_tree(self._path / container_id)


def note_begin(container: Path) -> None:
    """Keep what the root directory in a container's directory takes before its guest runs. Raises OSError."""
    begun = disk_usage((container / "rootfs").resolve()) or DiskUsage(0, 0)
    (container / "begun").write_text(f"{begun.size} {begun.inodes}")


def used(container: Path) -> DiskUsage | None:
    """What has come to it since; None if there is no such directory. Blocks. Raises OSError."""
    now = disk_usage((container / "rootfs").resolve())
    if now is None:
        return None
    try:
        size, inodes = (container / "begun").read_text().split()
    except FileNotFoundError:
        return now
    return DiskUsage(max(0, now.size - int(size)), max(1, now.inodes - int(inodes) + 1))
