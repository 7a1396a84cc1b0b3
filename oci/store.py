"""Verified content on disk, by digest, beside the index of what the names stand for.

    ROOT/blobs/sha256/HEX    content whose digest was checked before it got this name
    ROOT/index/              see oci.index
    ROOT/ingest/             content that is being written; leftovers are removed at the next start
    ROOT/corrupt/            what was found damaged, kept to be looked at
    ROOT/lock                held while names are bound or content is removed, by whichever process

It exists so that a crash at any moment leaves whole files or none under their final names, and so that no
process removes what another one is about to name. All of it blocks. It must not know manifests or registries.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import logging
import os
import secrets
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from oci import digests
from oci.errors import Named, StoreError, VerificationError
from oci.index import Found, Index
from oci.ingest import Ingest, write

log = logging.getLogger(__name__)

LOCK_TIMEOUT = 60.0
"""Seconds to wait for another process, which holds the lock for the time of a few system calls."""
_LOCK_PAUSE = 0.01
FRESH = 120.0
"""Seconds for which content that no name needs yet is kept: another process may be about to name it."""


class Writer:
    """Takes a blob's bytes; nothing of it is seen before `Store.writer` has checked all of it."""

    def __init__(self, file: io.FileIO, digest: str) -> None:
        self._file = file
        self._hasher = digests.hasher(digest)
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add to the content. Raises OSError."""
        self._hasher.update(data)
        self.size += len(data)
        write(self._file, data)

    def hexdigest(self) -> str:
        """The digest of what was written so far, without its algorithm."""
        return self._hasher.hexdigest()


class Store:
    """The content under one directory, which only its owner can read."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._corrupt = root / "corrupt"
        self._root = root
        self.ingest = Ingest(root / "ingest")
        self.index = Index(root, self.ingest, self.set_aside)

    def open(self) -> list[Found]:
        """Make the directories, remove what a crash left, and read what all names stand for.

        Entries that cannot be read are set aside with a line in the log. Raises OSError.
        """
        for directory in (
            self._root,
            self._blobs,
            self.index.directory,
            self.ingest.directory,
            self._corrupt,
        ):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.ingest.sweep()
        return self.index.read_all()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other process or thread binds names or removes content in the body. Raises OSError."""
        descriptor = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_TIMEOUT
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        text = "another process does not let go of it"
                        raise TimeoutError(errno.ETIMEDOUT, text, str(self._root / "lock")) from None
                    time.sleep(_LOCK_PAUSE)
            yield
        finally:
            os.close(descriptor)

    def path(self, digest: str) -> Path:
        """Where the content of a valid digest is or would be."""
        return Path(self.location(digest))

    def location(self, digest: str) -> str:
        """The same as text, which costs less to make and to ask for."""
        algorithm, _, encoded = digest.partition(":")
        return f"{self._blobs}/{algorithm}/{encoded}"

    def has(self, digest: str, size: int) -> bool:
        """Whether content is there in its full size; of any other size it is set aside. Raises OSError."""
        path = self.path(digest)
        try:
            found = path.stat().st_size
        except FileNotFoundError:
            return False
        if found != size:
            self.set_aside(path, f"{found} bytes instead of {size}")
            return False
        return True

    def read(self, digest: str, limit: int) -> bytes | None:
        """Content, verified, or None; damaged or beyond `limit` bytes it is set aside. Raises OSError."""
        path = self.path(digest)
        try:
            with path.open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            self.set_aside(path, "a directory")
            return None
        if len(data) > limit or not digests.matches(digest, data):
            self.set_aside(path, "not the content of its digest")
            return None
        return data

    def verify(self, digest: str) -> bool:
        """Whether content is not damaged, all of which is read; if it is, it is set aside. Raises OSError."""
        path = self.path(digest)
        try:
            with path.open("rb") as file:
                found = digests.of_file(file, digest.partition(":")[0])
        except FileNotFoundError:
            return True
        except IsADirectoryError:
            self.set_aside(path, "a directory")
            return False
        if found == digest:
            return True
        self.set_aside(path, f"its content is {found}")
        return False

    def write(self, reference: Named, digest: str, data: bytes) -> None:
        """Keep content that is in memory. Raises StoreError and VerificationError."""
        with self.writer(reference, digest, len(data)) as writer:
            writer.write(data)

    @contextlib.contextmanager
    def writer(self, reference: Named, digest: str, size: int) -> Iterator[Writer]:
        """Keep content that is written in the body; a body that fails leaves nothing.

        Raises StoreError, and VerificationError when it is not the content of `digest` and `size`.
        """
        with self._failures(reference, f"blob {digest}"):
            self._check_space(reference, digest, size)
            final = self.path(digest)
            final.parent.mkdir(mode=0o700, exist_ok=True)
            if final.is_dir():  # which no file could take the place of
                self.set_aside(final, "a directory")
            with self.ingest.file(digest.partition(":")[2][:16], final) as file:
                writer = Writer(file, digest)
                yield writer
                _verify(reference, digest, size, writer)

    def remove_all_but(self, needed: Collection[str], dropped: Collection[str], now: float) -> None:
        """Remove content that nobody needs, while locked: what was `dropped`, and what is not `FRESH`.

        Raises OSError.
        """
        for algorithm in self._blobs.iterdir():
            for path in algorithm.iterdir():
                digest = f"{algorithm.name}:{path.name}"
                if digest in needed:
                    continue
                if path.is_dir():
                    self.set_aside(path, "a directory")
                elif digest in dropped or now - path.stat().st_mtime > FRESH:
                    path.unlink(missing_ok=True)

    def set_aside(self, path: Path, why: str) -> None:
        """Move damaged content out of the way. Raises OSError."""
        target = self._corrupt / path.name
        if path.is_dir() or target.is_dir():  # neither can take another's place
            target = target.with_name(f"{path.name}.{secrets.token_hex(8)}")
        log.warning("image store: %s is corrupt: %s; moved to %s", path, why, target)
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.replace(target)

    def _check_space(self, reference: Named, digest: str, size: int) -> None:
        """Not to fill the disk first and fail then: what is free now is what counts."""
        disk = os.statvfs(self.ingest.directory)
        free = disk.f_bavail * disk.f_frsize
        if size > free:
            raise StoreError(reference, f"blob {digest}: needs {size} bytes, {free} are free in {self._root}")

    @contextlib.contextmanager
    def _failures(self, reference: Named, subject: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            cause = f"{subject}: cannot write to {self._root}: {error.strerror or error}"
            raise StoreError(reference, cause) from error


def _verify(reference: Named, digest: str, size: int, writer: Writer) -> None:
    if writer.size > size:
        raise VerificationError(
            reference, f"blob {digest}: more than the {size} bytes that the manifest says"
        )
    if writer.size < size:
        raise VerificationError(reference, f"blob {digest}: {writer.size} bytes, the manifest says {size}")
    algorithm, _, expected = digest.partition(":")
    if writer.hexdigest() != expected:
        raise VerificationError(reference, f"blob {digest}: the content is {algorithm}:{writer.hexdigest()}")
