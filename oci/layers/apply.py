"""The rules by which a layer's entries change the directory that the layers below have made.

It exists to hold the image specification's "Image Layer Filesystem Changeset" in one place, and what of an
archive is refused. It must not know where a layer comes from.

An entry takes the place of what is there, but for a directory in the place of a directory. Device nodes and
pipes are left out, as containerd leaves out devices that it may not make: WASI has nothing that could open
them. Extended attributes are not kept, which no guest can see. A file keeps the owner's right to read it and
a directory all of its owner's, so that a node that is not root can copy them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import BinaryIO

from oci import digests
from oci.layers.compression import MAXIMUM_UNPACKED, Archive, Compression
from oci.layers.errors import LayerError, LimitError
from oci.layers.tar import Entry, Kind, TarReader
from oci.layers.tree import Tree

MAXIMUM_ENTRIES = 200_000
"""Entries that all layers of an image may have together."""

_WHITEOUT = ".wh."
_OF_TOOLS = ".wh..wh."
"""How names begin that tell one tool something, and nobody else (AUFS)."""
_OPAQUE = ".wh..wh..opq"


class Unpacker:
    """Applies layers to one tree, the lowest first, and counts what they hold."""

    def __init__(
        self, tree: Tree, max_size: int = MAXIMUM_UNPACKED, max_entries: int = MAXIMUM_ENTRIES
    ) -> None:
        """The limits are for all layers together; `max_size` is bytes of the archives, unpacked."""
        self._tree = tree
        self._size = max_size
        self._entries = max_entries
        self.left_out = 0

    def apply(self, file: BinaryIO, compression: Compression, diff_id: str | None) -> None:
        """Apply one layer, whose archive must have the digest `diff_id`, if somebody has told it.

        Raises LayerError naming the entry, and OSError.
        """
        hasher = digests.hasher(diff_id or "sha256:")
        archive = Archive(file, compression, hasher, self._size)
        reader = TarReader(archive.read)
        self._tree.begin_layer()
        for entry in reader:
            self._entries -= 1
            if self._entries < 0:
                raise LimitError(f"the layers hold more than {MAXIMUM_ENTRIES} entries")
            self._apply(entry, reader.content)
        found = archive.hexdigest()
        if diff_id is not None and found != diff_id.partition(":")[2]:
            algorithm = diff_id.partition(":")[0]
            raise LayerError(f"the archive is {algorithm}:{found}, the image config says {diff_id}")
        self._size -= archive.size

    def finish(self) -> None:
        """After the last layer. Raises OSError."""
        self._tree.finish()

    def _apply(self, entry: Entry, content: Callable[[], Iterable[bytes]]) -> None:
        try:
            self._change(entry, parts_of(entry.name), content)
        except LimitError:
            raise
        except LayerError as error:
            raise LayerError(f"{entry.name[:200]!r}: {error}") from error

    def _change(self, entry: Entry, parts: list[str], content: Callable[[], Iterable[bytes]]) -> None:
        tree = self._tree
        if _is_whiteout(parts):
            self._hide(parts)
        elif entry.kind is Kind.DIRECTORY:
            tree.directory(parts, entry.mode, entry.uid, entry.gid, entry.mtime)
        elif not parts:
            raise LayerError("the root is no directory")
        elif entry.kind is Kind.FILE:
            tree.file(parts, content(), entry.mode, entry.uid, entry.gid, entry.mtime)
        elif entry.kind is Kind.SYMBOLIC_LINK:
            tree.symbolic_link(parts, entry.link, entry.uid, entry.gid, entry.mtime)
        elif entry.kind is Kind.HARD_LINK:
            tree.hard_link(parts, parts_of(entry.link))
        else:  # a device node or a pipe
            tree.nothing(parts)
            self.left_out += 1

    def _hide(self, parts: list[str]) -> None:
        *above, name = parts
        if name == _OPAQUE and not _is_whiteout(above):
            self._tree.hide_content(above)
        elif any(part.startswith(_OF_TOOLS) for part in parts):
            return
        elif _is_whiteout(above):
            raise LayerError("it lies in a whiteout")
        else:
            hidden = name.removeprefix(_WHITEOUT)
            if hidden in ("", ".", ".."):
                raise LayerError("a whiteout of no name")
            self._tree.hide([*above, hidden])


def _is_whiteout(parts: list[str]) -> bool:
    return any(part.startswith(_WHITEOUT) for part in parts)


def parts_of(name: str) -> list[str]:
    """A path from the root, by its parts. Raises LayerError for one that goes up."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise LayerError("a path with `..`")
    return parts
