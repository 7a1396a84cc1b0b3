"""What the names of images stand for, on disk: a file a name, and all of them in one more for a fast start.

    ROOT/index/HEX.json      a name, its digest, and what is needed to run it; HEX is the name's sha256
    ROOT/index.snapshot      all entries as they were read last, with what tells whether their files changed

It exists so that one name costs one stat to look up, whichever process has bound it, and a thousand of them
one file. The files of the index decide; the snapshot may be lost or old. All of it blocks. It must not know
registries, nor what an image is for.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from oci import digests
from oci.artifact import ImageConfig
from oci.errors import InvalidReferenceError
from oci.ingest import Ingest, write
from oci.reference import Reference, parse

log = logging.getLogger(__name__)

_DIGEST_SIZE = 32


class Stamp(NamedTuple):
    """What tells a file from the one that takes its place."""

    changed: int
    inode: int
    size: int


class Blob(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Content of the store, and its size in bytes."""

    digest: str
    size: int


class Single(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """An image of one module, so that it can be run without a look at its manifests.

    `size` is bytes of all of it, `parts` are all that must be here, manifests too.
    """

    module: str
    size: int
    config: ImageConfig
    parts: tuple[Blob, ...]


class Entry(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A name, as `Reference.name` gives it, and the digest of the manifest or index it stands for.

    Without `single` it is an image with files, whose manifests say what it consists of.
    """

    name: str
    digest: str
    single: Single | None = None


class Found(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An entry that can be believed."""

    reference: Reference
    entry: Entry
    stamp: Stamp


class Index:
    """The names under one store's root. `set_aside` moves a damaged file out of the way and says why."""

    def __init__(self, root: Path, ingest: Ingest, set_aside: Callable[[Path, str], None]) -> None:
        self._snapshot_file = root / "index.snapshot"
        self._ingest = ingest
        self.directory = root / "index"
        self._set_aside = set_aside

    def path(self, reference: Reference) -> Path:
        """Where a reference's entry is or would be."""
        return Path(self.location(reference))

    def location(self, reference: Reference) -> str:
        """The same as text, which costs less to make and to ask for."""
        return f"{self.directory}/{_file_name(reference.name)}"

    def read(self, reference: Reference) -> Found | None:
        """What a name stands for; a damaged entry is set aside. Raises OSError."""
        return self._read(_file_name(reference.name))

    def read_all(self) -> list[Found]:
        """What all names stand for; damaged entries are set aside. Raises OSError."""
        before = self._snapshot()
        current: dict[str, Found] = {}
        for file, stamp in sorted(self._files()):
            found = before.get(file)
            if found is None or found.stamp != stamp:
                found = self._read(file)
            if found is not None:
                current[file] = found
        if current != before:
            self._keep_snapshot(current)
        return list(current.values())

    def write(self, reference: Reference, digest: str, single: Single | None) -> Stamp:
        """Let a reference's name stand for `digest` from now on. Raises OSError."""
        data = msgspec.json.encode(Entry(reference.name, digest, single))
        with self._ingest.file("index", self.path(reference)) as file:
            write(file, data)
            return _stamp(os.fstat(file.fileno()))

    def remove(self, reference: Reference) -> None:
        """Let a reference's name stand for nothing any more. Raises OSError."""
        self.path(reference).unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[str, Stamp]]:
        with os.scandir(self.directory) as items:
            for item in items:
                try:
                    yield item.name, _stamp(item.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue  # another process was faster

    def _read(self, file: str) -> Found | None:
        path = self.directory / file
        why = ""
        try:
            with path.open("rb", buffering=0) as opened:
                stamp = _stamp(os.fstat(opened.fileno()))
                entry = msgspec.json.decode(opened.readall(), type=Entry)
            reference = parse(entry.name)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError, InvalidReferenceError, IsADirectoryError) as error:
            why = str(error)
        else:
            if reference.name != entry.name or _file_name(entry.name) != file:
                why = f"the entry of {entry.name} under another's name"
            elif not _is_possible(reference, entry):
                why = f"{entry.digest!r} cannot be the digest of {entry.name}"
        if why:
            self._set_aside(path, why)
            return None
        return Found(reference, entry, stamp)

    def _snapshot(self) -> dict[str, Found]:
        """What was found before, by the names of files; its own digest tells whether it is whole."""
        try:
            data = self._snapshot_file.read_bytes()
        except FileNotFoundError:
            return {}
        except IsADirectoryError as error:
            self._set_aside(self._snapshot_file, str(error))
            return {}
        if hashlib.sha256(data[_DIGEST_SIZE:]).digest() != data[:_DIGEST_SIZE]:
            log.info("image store: the index's snapshot is damaged, and made anew")
            return {}
        try:
            return msgspec.msgpack.decode(data[_DIGEST_SIZE:], type=dict[str, Found])
        except msgspec.DecodeError as error:
            log.info("image store: the index's snapshot is another version's, and made anew: %s", error)
            return {}

    def _keep_snapshot(self, entries: dict[str, Found]) -> None:
        """The entries' own files decide, so that it may be lost."""
        data = msgspec.msgpack.encode(entries)
        try:
            self._ingest.write(
                "snapshot", self._snapshot_file, hashlib.sha256(data).digest() + data, durable=False
            )
        except OSError as error:
            log.warning("image store: the index has no snapshot: %s", error)


def stamp_of(path: str) -> Stamp | None:
    """What tells whether a file is still the same; None when it is not there. Raises OSError."""
    try:
        return _stamp(os.stat(path))  # noqa: PTH116  the hot path: a Path costs more than the call
    except FileNotFoundError:
        return None


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_mtime_ns, status.st_ino, status.st_size)


def _is_possible(reference: Reference, entry: Entry) -> bool:
    single = entry.single
    parts = () if single is None else (single.module, *(part.digest for part in single.parts))
    return all(map(digests.valid, (entry.digest, *parts))) and reference.digest in (None, entry.digest)


def _file_name(name: str) -> str:
    return f"{hashlib.sha256(name.encode()).hexdigest()}.json"
