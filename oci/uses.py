"""Which images are in use, and when each was used last: by which agent, for all to see.

    ROOT/uses/HEX.json    what one agent uses; HEX is the sha256 of the directory that its state is in

It exists because several processes share a store, and none may remove what another one's containers use. An
agent says so before it hands out an image. Its containers outlive it, and so does the file, until the
directory of its state is gone. All of it blocks, and is called with the store locked. It must not know what
uses an image.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from oci.ingest import Ingest

log = logging.getLogger(__name__)


class _Use(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`held` are digests of images, `last` when each was used last, in seconds since the epoch."""

    owner: str
    held: list[str]
    last: dict[str, float]


class Uses:
    """The uses of one store as one agent sees them; `owner` is its state's directory, None uses nothing."""

    def __init__(
        self, root: Path, ingest: Ingest, set_aside: Callable[[Path, str], None], owner: Path | None
    ) -> None:
        self._directory = root / "uses"
        self._ingest = ingest
        self._set_aside = set_aside
        self._owner = owner
        self.held: set[str] = set()
        self.last: dict[str, float] = {}

    def open(self) -> None:
        """Make the directory, and go on with what this agent held before. Raises OSError."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        if self._owner is None:
            return
        before = self._read(self._file(str(self._owner)))
        if before is not None:
            self.held, self.last = set(before.held), before.last

    def hold(self, digest: str) -> None:
        """Let nobody else remove the image from now on. Raises OSError."""
        if self._owner is not None and digest not in self.held:
            self.held.add(digest)
            try:
                self._write()
            except OSError:
                self.held.discard(digest)  # others do not know of it
                raise

    def release(self, last: Mapping[str, float]) -> None:
        """Tell all of what is held now, and when images were used last. Raises OSError."""
        self.last = dict(last)
        self._write()

    def of_others(self) -> frozenset[str]:
        """What others hold. Raises OSError."""
        return frozenset(digest for use in self._others() for digest in use.held)

    def _others(self) -> Iterator[_Use]:
        for path in self._directory.iterdir():
            use = self._read(path)
            if use is None or use.owner == str(self._owner):
                continue
            if Path(use.owner).is_dir():
                yield use
            else:
                path.unlink(missing_ok=True)

    def _read(self, path: Path) -> _Use | None:
        try:
            use = msgspec.json.decode(path.read_bytes(), type=_Use)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError, IsADirectoryError) as error:
            self._set_aside(path, str(error))
            return None
        if self._file(use.owner) != path:
            self._set_aside(path, f"what {use.owner} uses under another's name")
            return None
        return use

    def _write(self) -> None:
        """Durable enough: what uses an image does not outlive the machine either."""
        use = _Use(str(self._owner), sorted(self.held), self.last)
        self._ingest.write("uses", self._file(use.owner), msgspec.json.encode(use), durable=False)

    def _file(self, owner: str) -> Path:
        return self._directory / f"{hashlib.sha256(owner.encode()).hexdigest()}.json"
