"""A file system of a test's own that runs out: of bytes, of names, to the last one, or of being writable.

It exists so that a node meets a full disk where nothing else does. It must not know what is on it.
"""

from __future__ import annotations

import contextlib
import errno
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MOST = 1 << 20
"""Bytes that are written at once, and more files than a small disk takes."""


@dataclass(frozen=True)
class SmallDisk:
    """A mounted file system; what fills it is in a directory beside what others have there."""

    path: Path

    @property
    def _filling(self) -> Path:
        return self.path / "filling"

    def fill_bytes(self) -> None:
        """Until not one more byte can be written."""
        with _until_full(), (self._filling / "bytes").open("ab", buffering=0) as file:
            while file.write(bytes(_MOST)):
                pass

    def fill_inodes(self) -> None:
        """Until not one more file can be made."""
        begin = len(list(self._filling.iterdir()))
        with _until_full():
            for number in range(begin, begin + _MOST):
                (self._filling / str(number)).touch()

    def lock(self) -> None:
        """Let nothing be written. Nobody may have a file open for that."""
        self._remount("ro")

    def free(self) -> None:
        """Have room again, and let all write."""
        self._remount("rw")
        for path in self._filling.iterdir():
            path.unlink()

    def _remount(self, mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", self.path], check=True)


@contextlib.contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


@contextlib.contextmanager
def small_disk(path: Path, size: str, inodes: int) -> Iterator[SmallDisk]:
    """A tmpfs, for root to make."""
    path.mkdir(parents=True)
    options = f"size={size},nr_inodes={inodes},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
    try:
        made = SmallDisk(path)
        made._filling.mkdir()
        yield made
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
