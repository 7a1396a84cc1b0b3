"""Content digests as the image specification writes them: `algorithm:hex`.

It exists so that a digest is judged in one place before it becomes a path or a part of a URL. It must not
know what the content is.
"""

from __future__ import annotations

import hashlib
import io
import re
from typing import Protocol

# The algorithms that the image specification registers, and the one more that Docker's grammar takes.
_HEX_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


class Hasher(Protocol):
    """The part of hashlib's objects that is used."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add to the content."""
        ...

    def hexdigest(self) -> str:
        """The content's digest so far."""
        ...


def valid(digest: str) -> bool:
    """Whether this is a digest of an algorithm that can be checked here."""
    algorithm, _, encoded = digest.partition(":")
    return len(encoded) == _HEX_LENGTHS.get(algorithm) and _HEX.fullmatch(encoded) is not None


def hasher(digest: str) -> Hasher:
    """A fresh hasher of a valid digest's algorithm."""
    return hashlib.new(digest.partition(":")[0], usedforsecurity=True)


def of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of `data`."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def of_file(file: io.BufferedReader, algorithm: str = "sha256") -> str:
    """The digest of what is left of an open file."""
    return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def matches(digest: str, data: bytes) -> bool:
    """Whether `data` is what a valid digest names."""
    return of(data, digest.partition(":")[0]) == digest
