"""Which images a policy was found to accept, on disk, so that a restart asks no registry for signatures.

    ROOT/accepted/ALGORITHM-HEX.json    names of the image of this digest, each with its policy's digest

It exists because signatures are in the registry, which a node may not reach when it starts. What cannot be
read counts for nothing: the signatures are looked at again. All of it blocks. It must not know policies.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import msgspec

from oci.ingest import Ingest

log = logging.getLogger(__name__)

MOST = 100
"""Acceptances that are kept of one image, the latest."""


class Accepted(msgspec.Struct, frozen=True, array_like=True):
    """By the policy with this digest, under this name."""

    policy: str
    name: str


class Records:
    """The files under one image store's root; other processes may write there too."""

    def __init__(self, root: Path, ingest: Ingest) -> None:
        """`ingest` is on the same file system."""
        self._directory = root / "accepted"
        self._ingest = ingest

    def has(self, digest: str, one: Accepted) -> bool:
        """Whether an image was accepted so."""
        return one in self._read(digest)

    def add(self, digest: str, one: Accepted) -> None:
        """An image was accepted. What cannot be kept is known to this process only."""
        others = [other for other in self._read(digest) if other != one]
        data = msgspec.json.encode([*others, one][-MOST:])
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._ingest.write("accepted", self._path(digest), data, durable=False)
        except OSError as error:
            log.warning("image %s: that it was accepted is not kept: %s", digest, error)

    def keep_only(self, digests: Collection[str]) -> None:
        """Images of other digests are gone. Raises OSError."""
        kept = {self._path(digest).name for digest in digests}
        if self._directory.is_dir():
            for path in self._directory.iterdir():
                if path.name not in kept:
                    path.unlink(missing_ok=True)

    def _read(self, digest: str) -> list[Accepted]:
        path = self._path(digest)
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[Accepted])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("that an image was accepted is not known any more: %s: %s", path, error)
            return []

    def _path(self, digest: str) -> Path:
        return self._directory / f"{digest.replace(':', '-')}.json"
