"""Files that are written whole: under a name of their own, locked, and then moved into their place.

It exists so that a crash at any moment leaves whole files or none under their final names, and so that a
later start can tell what a crash left from what another process is writing. All of it blocks. It must not
know what is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

log = logging.getLogger(__name__)


class Ingest:
    """One directory for all that is being written below one root, on the same file system."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def sweep(self) -> None:
        """Remove what no process is writing to any more. Raises OSError."""
        for path in self.directory.iterdir():
            remove_abandoned(path, Path.unlink)

    @contextlib.contextmanager
    def file(self, prefix: str, final: Path, *, durable: bool = True) -> Iterator[io.FileIO]:
        """A new file that gets its place when the body ends; a body that fails leaves nothing.

        Unless `durable`, it may be lost when the machine fails. Raises OSError.
        """
        temporary = self.directory / f"{prefix}-{secrets.token_hex(8)}"
        try:
            with _create(temporary) as file:
                yield file
                if durable:
                    os.fsync(file.fileno())
                temporary.rename(final)
            if durable:
                _sync_directory(final.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def write(self, prefix: str, final: Path, data: bytes, *, durable: bool = True) -> None:
        """Write a file that is in memory. Raises OSError."""
        with self.file(prefix, final, durable=durable) as file:
            write(file, data)


def write(file: io.FileIO, data: bytes) -> None:
    """Write all of it: a disk that is nearly full takes a part, and says why only when asked again."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _create(path: Path) -> io.FileIO:
    """A new file, locked for as long as it is open: that tells it from what a crash left."""
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        file = io.FileIO(descriptor, "wb")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return file
        file.close()  # another process swept it away before it was locked


def remove_abandoned(path: Path, remove: Callable[[Path], object]) -> None:
    """Remove a file or directory that no process has locked any more. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # another process was faster
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("image store: %s is in use by another process", path)
    else:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            remove(path)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
