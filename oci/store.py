"""Verified content on disk, by digest, and what the names point at.

    ROOT/blobs/sha256/HEX    content whose digest was checked before it got this name
    ROOT/index/HEX.json      one name and its digest; HEX is the name's sha256
    ROOT/ingest/             content that is being written; leftovers are removed at the next start
    ROOT/corrupt/            what was found damaged, kept to be looked at

It exists so that a crash at any moment leaves whole files or none under their final names. All of it blocks.
It must not know manifests or registries.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import logging
import os
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from oci import digests
from oci.errors import InvalidReferenceError, Named, StoreError, VerificationError
from oci.reference import Reference, parse

log = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name, as `Reference.name` gives it, and the digest of the manifest or index it stands for."""

    name: str
    digest: str


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
        _write(self._file, data)

    def hexdigest(self) -> str:
        """The digest of what was written so far, without its algorithm."""
        return self._hasher.hexdigest()


class Store:
    """The content under one directory, which only its owner can read."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._index = root / "index"
        self._ingest = root / "ingest"
        self._corrupt = root / "corrupt"
        self._root = root

    def open(self) -> list[tuple[Reference, str]]:
        """Make the directories, remove what a crash left, and read all names with their digests.

        Entries that cannot be read are set aside with a line in the log. Raises OSError.
        """
        for directory in (self._root, self._blobs, self._index, self._ingest, self._corrupt):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._ingest.iterdir():
            _remove_abandoned(path)
        entries = []
        for path in sorted(self._index.iterdir()):
            entry = self._read_entry(path)
            if entry is not None:
                entries.append(entry)
        return entries

    def path(self, digest: str) -> Path:
        """Where the content of a valid digest is or would be."""
        algorithm, _, encoded = digest.partition(":")
        return self._blobs / algorithm / encoded

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
        if len(data) > limit or not digests.matches(digest, data):
            self.set_aside(path, "not the content of its digest")
            return None
        return data

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
            temporary = self._ingest / f"{digest.partition(':')[2][:16]}-{secrets.token_hex(8)}"
            try:
                with _create(temporary) as file:
                    writer = Writer(file, digest)
                    yield writer
                    _verify(reference, digest, size, writer)
                    os.fsync(file.fileno())
                    temporary.rename(final)
                _sync_directory(final.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def bind(self, reference: Reference, digest: str) -> None:
        """Let a reference's name stand for `digest` from now on. Raises StoreError."""
        data = msgspec.json.encode(Entry(reference.name, digest))
        temporary = self._ingest / f"index-{secrets.token_hex(8)}"
        with self._failures(reference, "index entry"):
            try:
                with _create(temporary) as file:
                    _write(file, data)
                    os.fsync(file.fileno())
                    temporary.rename(self._entry_path(reference.name))
                _sync_directory(self._index)
            finally:
                temporary.unlink(missing_ok=True)

    def unbind(self, reference: Reference) -> None:
        """Let a reference's name stand for nothing any more. Raises OSError."""
        self._entry_path(reference.name).unlink(missing_ok=True)

    def remove_all_but(self, digests: Collection[str]) -> None:
        """Remove content that nobody needs; nothing may be written meanwhile. Raises OSError."""
        kept = {self.path(digest) for digest in digests}
        for algorithm in self._blobs.iterdir():
            for path in algorithm.iterdir():
                if path not in kept:
                    path.unlink(missing_ok=True)

    def set_aside_entry(self, reference: Reference, why: str) -> None:
        """Take a name out of the index, so that it is asked for anew. Raises OSError."""
        self.set_aside(self._entry_path(reference.name), why)

    def set_aside(self, path: Path, why: str) -> None:
        """Move damaged content out of the way. Raises OSError."""
        target = self._corrupt / path.name
        log.warning("image store: %s is corrupt: %s; moved to %s", path, why, target)
        path.replace(target)

    def _entry_path(self, name: str) -> Path:
        return self._index / f"{hashlib.sha256(name.encode()).hexdigest()}.json"

    def _read_entry(self, path: Path) -> tuple[Reference, str] | None:
        try:
            entry = msgspec.json.decode(path.read_bytes(), type=Entry)
            reference = parse(entry.name)
        except (msgspec.DecodeError, UnicodeDecodeError, InvalidReferenceError) as error:
            self.set_aside(path, str(error))
            return None
        if reference.name != entry.name or self._entry_path(entry.name) != path:
            self.set_aside(path, f"the entry of {entry.name} under another's name")
            return None
        if not digests.valid(entry.digest) or reference.digest not in (None, entry.digest):
            self.set_aside(path, f"{entry.digest!r} cannot be the digest of {entry.name}")
            return None
        return reference, entry.digest

    def _check_space(self, reference: Named, digest: str, size: int) -> None:
        """Not to fill the disk first and fail then: what is free now is what counts."""
        disk = os.statvfs(self._ingest)
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


def _create(path: Path) -> io.FileIO:
    """A new file, locked for as long as it is open: that tells it from what a crash left."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return io.FileIO(descriptor, "wb")


def _write(file: io.FileIO, data: bytes) -> None:
    """Write all of it: a disk that is nearly full takes a part, and says why only when asked again."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _remove_abandoned(path: Path) -> None:
    """Remove a file that no process is writing to any more."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("image store: %s is being written by another process", path)
    else:
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


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


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
