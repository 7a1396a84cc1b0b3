"""Archives as other tools write them, and every way in which one can be damaged."""

from __future__ import annotations

import contextlib
import gzip
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tars import PACKERS, archive, directory, hard, member, symbolic

from oci import digests
from oci.layers.compression import MAXIMUM_UNPACKED, Archive, Compression
from oci.layers.errors import LayerError
from oci.layers.tar import BLOCK, Entry, Kind, TarReader

LONG = "d/" * 60 + "ü" * 100


def read(data: bytes) -> list[tuple[Entry, bytes]]:
    reader = TarReader(io.BytesIO(data).read)
    return [(entry, b"".join(reader.content())) for entry in reader]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_each_format(form: int) -> None:
    name = "p/" * 60 + "name" if form == tarfile.USTAR_FORMAT else LONG
    target = "target" if form == tarfile.USTAR_FORMAT else LONG
    uid = 1000 if form == tarfile.USTAR_FORMAT else 2**24
    data = archive(
        [
            member(name, b"x" * 1000, mode=0o640, uid=uid, gid=2, mtime=1234),
            directory("d/", mtime=7),
            symbolic("s", target),
            hard("h", target),
            member("empty"),
        ],
        form,
    )
    found = read(data)
    assert found[0] == (Entry(name, Kind.FILE, 1000, 0o640, uid, 2, 1234 * 10**9, ""), b"x" * 1000)
    assert [(entry.kind, entry.link) for entry, _ in found[1:]] == [
        (Kind.DIRECTORY, ""),
        (Kind.SYMBOLIC_LINK, target),
        (Kind.HARD_LINK, target),
        (Kind.FILE, ""),
    ]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("12", 12 * 10**9),
        ("1.5", 1_500_000_000),
        ("0.1234567891", 123_456_789),
        (".5", 500_000_000),
        ("-1.25", -1_250_000_000),
    ],
)
def test_times(text: str, time: int) -> None:
    ((entry, _),) = read(archive([member("a", pax_headers={"mtime": text})]))
    assert entry.mtime == time


def test_what_a_global_header_says_is_passed_over() -> None:
    file = io.BytesIO()
    with tarfile.open(
        fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "c0ffee", "path": "no"}
    ) as tar:
        tar.addfile(*[member("a")[0]])
    assert [entry.name for entry, _ in read(file.getvalue())] == ["a"]


def test_what_gnu_tar_makes(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/file").write_bytes(b"content")
    (tmp_path / "d/link").symlink_to("file")
    for form in ("gnu", "posix", "v7", "oldgnu", "ustar"):
        made = subprocess.run(
            ["tar", f"--format={form}", "-C", tmp_path, "-c", "d"], capture_output=True, check=True
        ).stdout
        found = {entry.name.rstrip("/"): (entry.kind, content) for entry, content in read(made)}
        assert found == {
            "d": (Kind.DIRECTORY, b""),
            "d/file": (Kind.FILE, b"content"),
            "d/link": (Kind.SYMBOLIC_LINK, b""),
        }


def damaged(change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(archive([member("a", b"content"), member("b", b"x")], tarfile.USTAR_FORMAT))
    change(data)
    return bytes(data)


def header(kind: bytes, size: int = 0) -> bytes:
    info, _ = member("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.USTAR_FORMAT)


def put(position: int, text: bytes) -> Callable[[bytearray], None]:
    """Change a header and its checksum with it."""

    def change(data: bytearray) -> None:
        data[position : position + len(text)] = text
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:BLOCK])

    return change


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no archive", "ends within a header"),
        (b"x" * BLOCK, "checksum b'xxxxxxxx' is no octal number"),
        (damaged(lambda data: data.__setitem__(0, 1)), "a header's checksum is wrong"),
        (damaged(lambda data: data.__setitem__(2 * BLOCK, 1)), "a header's checksum is wrong"),
        (archive([member("a", b"content")])[: BLOCK + 3], "ends within a file's content"),
        (archive([member("a", b"content")])[: BLOCK + 9], "ends within a file's content"),
        (header(b"x", 20) + b"short", "ends within an extended header"),
        (header(b"x", 4) + b"abcd" + bytes(508), "an extended header is damaged"),
        (header(b"x", 9) + b"9 path=\0x" + bytes(503), "an extended header is damaged"),
        (header(b"x", 8) + b"99 a=b\n " + bytes(504), "an extended header is damaged"),
        (header(b"x", 10) + b"10 size=x\n" + bytes(502) + header(b"0"), "size 'x' is no number"),
        (header(b"x", 11) + b"11 mtime=x\n" + bytes(501) + header(b"0"), "mtime 'x' is no time"),
        (header(b"x", 12) + b"12 path=a\0b\n" + bytes(500) + header(b"0"), "a name with a NUL"),
        (header(b"L", 3) + b"abc" + bytes(509), "ends after an extended header"),
        (header(b"Z"), "an entry of the unknown type 'Z'"),
        (header(b"S"), "is a sparse file"),
        (header(b"2"), "a link to nothing"),
        (damaged(put(0, bytes(100))), "an entry without a name"),
        (damaged(put(124, b"9999999999\0")), "size b'9999999999' is no octal number"),
        (damaged(put(124, b"\xff" * 12)), "a size of -1 bytes"),
        (damaged(put(124, b"77777777777\0")), "ends within a file's content"),
        (header(b"x", 2**32), "extended headers of more than 1048576 bytes"),
        (b"".join(header(b"x", 0) for _ in range(3000)), "extended headers of more than"),
    ],
)
def test_what_is_damaged(data: bytes, words: str) -> None:
    with pytest.raises(LayerError) as caught:
        read(data)
    assert words in str(caught.value)


def test_an_archive_may_end_without_saying_so() -> None:
    data = archive([member("a", b"content")])[: 2 * BLOCK]
    assert [content for _, content in read(data)] == [b"content"]


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_are_an_archive_or_an_error(data: bytes) -> None:
    with contextlib.suppress(LayerError):
        read(data)


@settings(deadline=None)
@given(st.integers(0, 3 * BLOCK - 1), st.integers(0, 255), st.integers(0, 6 * BLOCK))
def test_a_changed_byte_or_end_is_an_error_or_another_archive(position: int, byte: int, end: int) -> None:
    data = bytearray(archive([member(LONG, b"content"), symbolic("s", "x")]))
    data[position % len(data)] = byte
    try:
        for entry, content in read(bytes(data[:end])):
            assert entry.name
            assert len(content) == entry.size
    except LayerError:
        pass


def unpacked(data: bytes, compression: Compression, digest: str = "sha256:x") -> bytes:
    stream = Archive(io.BytesIO(data), compression, digests.hasher(digest), MAXIMUM_UNPACKED)
    parts = []
    while part := stream.read(1000):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_what_is_packed_in_parts_is_one(compression: Compression) -> None:
    """As eStargz and zstd:chunked layers are, which end with what a plain reader passes over."""
    pack = PACKERS[compression]
    assert unpacked(pack(b"one") + pack(b"") + pack(b"two"), compression) == b"onetwo"
    if compression is Compression.ZSTD:
        skippable = b"\x50\x2a\x4d\x18\x04\0\0\0skip"
        assert unpacked(pack(b"one") + skippable, compression) == b"one"


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
@pytest.mark.parametrize("change", [lambda data: data[:-5], lambda data: b"no" + data])
def test_what_is_packed_wrongly(compression: Compression, change: Callable[[bytes], bytes]) -> None:
    data = change(PACKERS[compression](b"content" * 100))
    with pytest.raises(LayerError, match=f"the layer is no {compression.value}, or a damaged one"):
        unpacked(data, compression)
    broken = bytearray(gzip.compress(b"content"))
    broken[-6] ^= 1
    with pytest.raises(LayerError, match="CRC check failed"):
        unpacked(bytes(broken), Compression.GZIP)


def test_a_window_of_any_size_is_not_kept() -> None:
    # A frame that asks to look back 2 GiB: magic, descriptor without content size, window 31 << 3, one block.
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([21 << 3]) + b"\x01\x00\x00"
    with pytest.raises(LayerError, match="the layer is no zstd"):
        unpacked(frame, Compression.ZSTD)
