"""Fuzzes the unpacking of layers with atheris: `python -m tests.fuzz.layers [CORPUS] [-max_total_time=60]`.

Whatever comes in, it is unpacked below its own directory or refused, and what is beside stays as it was. Half
of the inputs are archives put together at random, since few mutations get past a header's checksum.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import atheris

from tests.fuzz.source import Source

with atheris.instrument_imports(include=["oci.layers"]):
    from oci import digests
    from oci.layers.apply import Unpacker
    from oci.layers.compression import Compression
    from oci.layers.contents import is_unchanged, survey
    from oci.layers.errors import LayerError
    from oci.layers.tree import Tree

NAMES = [
    "a",
    "b",
    "a/b",
    "b/a",
    "a/b/a",
    ".",
    "..",
    "/",
    "/a",
    "../x",
    "a/../b",
    ".wh.a",
    "a/.wh.b",
    ".wh..wh..opq",
    "a/.wh..wh..opq",
    ".wh.",
    ".wh..wh.x",
    "../beside/kept",
    "/proc/self/cwd",
]
KINDS = [
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    b"x",
    b"L",
    b"K",
    b"g",
]


def made(source: Source) -> bytes:
    """An archive as somebody might write it, well-formed or nearly so."""
    parts = []
    while source.remaining_bytes() > 6 and len(parts) < 60:
        info = tarfile.TarInfo(_text(source))
        info.type = KINDS[source.ConsumeIntInRange(0, len(KINDS) - 1)]
        info.linkname = _text(source)
        info.mode = source.ConsumeIntInRange(0, 0o7777)
        content = source.ConsumeBytes(source.ConsumeIntInRange(0, 40))
        info.size = len(content)
        parts += [info.tobuf(tarfile.USTAR_FORMAT), content, bytes(-len(content) % 512)]
    return b"".join(parts)


def _text(source: Source) -> str:
    choice = source.ConsumeIntInRange(0, len(NAMES))
    return NAMES[choice] if choice < len(NAMES) else source.ConsumeBytes(8).decode("latin-1")


def try_input(data: bytes) -> None:
    """Unpack one input as one layer or two. Raises AssertionError, or what unpacking should never raise."""
    source = atheris.FuzzedDataProvider(data)
    compression = (
        list(Compression)[source.ConsumeIntInRange(0, 2)] if source.ConsumeBool() else Compression.NONE
    )
    if source.ConsumeBool():
        archive = made(source)
        compression = Compression.NONE
    else:
        archive = source.ConsumeBytes(source.remaining_bytes())
    half = len(archive) // 1024 * 512 if source.ConsumeBool() else 0
    base = Path(tempfile.mkdtemp(prefix="vkubelet-fuzz-", dir="/dev/shm"))
    try:
        (base / "beside").mkdir()
        (base / "beside/kept").write_text("kept")
        root = base / "root"
        root.mkdir()
        _unpack(root, [layer for layer in (archive[:half], archive[half:]) if layer], compression)
        assert sorted(os.listdir(base)) == ["beside", "root"]  # noqa: PTH208
        assert (base / "beside/kept").read_text() == "kept"
        assert (base / "beside/kept").stat().st_nlink == 1
        contents = survey(root)
        assert is_unchanged(root, contents)
    finally:
        shutil.rmtree(base)


def _unpack(root: Path, layers: list[bytes], compression: Compression) -> None:
    opened = os.open(root, os.O_RDONLY)
    try:
        unpacker = Unpacker(Tree(opened), max_size=1 << 22, max_entries=200)
        for layer in layers:
            unpacker.apply(io.BytesIO(layer), compression, digests.of(layer))
        unpacker.finish()
    except LayerError:
        pass
    finally:
        os.close(opened)


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_input)
    atheris.Fuzz()
