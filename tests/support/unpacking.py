"""Trees that layers are unpacked into, with a sentinel beside that nothing may touch."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path

from tars import PACKERS, Member, archive

from oci import digests
from oci.layers.apply import MAXIMUM_ENTRIES, Unpacker
from oci.layers.compression import MAXIMUM_UNPACKED, Compression
from oci.layers.tree import Tree


class Target:
    """A directory beside `sentinel`, which holds `kept`."""

    def __init__(self, base: Path) -> None:
        self.root = base / "root"
        self.sentinel = base / "sentinel"
        self.root.mkdir()
        self.sentinel.mkdir()
        (self.sentinel / "kept").write_text("as it was")

    def unpack(
        self,
        *layers: Iterable[Member] | bytes,
        compression: Compression = Compression.NONE,
        max_size: int = MAXIMUM_UNPACKED,
        max_entries: int = MAXIMUM_ENTRIES,
    ) -> Unpacker:
        """Unpack layers, given as members or as whole archives. Raises LayerError."""
        opened = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            unpacker = Unpacker(Tree(opened), max_size, max_entries)
            for layer in layers:
                data = layer if isinstance(layer, bytes) else archive(layer)
                unpacker.apply(io.BytesIO(PACKERS[compression](data)), compression, digests.of(data))
            unpacker.finish()
        finally:
            os.close(opened)
        return unpacker

    def names(self) -> dict[str, str]:
        """What there is: `dir`, `-> TARGET`, or a file's content."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = f"-> {os.readlink(path)}"  # noqa: PTH115  pathlib makes it another text
            else:
                found[name] = "dir" if path.is_dir() else path.read_text(errors="replace")
        return found

    def assert_untouched(self) -> None:
        """Nothing beside the root has changed."""
        assert sorted(path.name for path in self.root.parent.iterdir()) == ["root", "sentinel"]
        assert [path.name for path in self.sentinel.iterdir()] == ["kept"]
        assert (self.sentinel / "kept").read_text() == "as it was"
        assert (self.sentinel / "kept").stat().st_nlink == 1
