"""What becomes of entries and whiteouts over layers, and what is refused."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tars import Member, archive, directory, hard, member, symbolic

from oci import digests
from oci.layers.apply import Unpacker
from oci.layers.compression import Compression
from oci.layers.errors import LayerError, LimitError
from oci.layers.tree import Tree

A, B = member("a", b"A"), member("d/b", b"B")


@pytest.mark.parametrize("compression", list(Compression))
def test_files_directories_and_links(target: Any, compression: Compression) -> None:
    layer = [
        directory("./", 0o700),
        directory("./d", 0o750, mtime=86_400),
        member("./d/f", b"hello", mode=0o4755, mtime=1_000_000_000.5),
        symbolic("d/s", "f", mtime=5),
        hard("h", "d/f"),
        member("/absolute", b"x"),
        member("deep/er/file", b"y", mode=0),
    ]
    target.unpack(layer, compression=compression)
    assert target.names() == {
        "absolute": "x",
        "d": "dir",
        "d/f": "hello",
        "d/s": "-> f",
        "deep": "dir",
        "deep/er": "dir",
        "deep/er/file": "y",
        "h": "hello",
    }
    file, made = (target.root / "d/f").stat(), (target.root / "d").stat()
    assert stat.S_IMODE(file.st_mode) == 0o755
    assert file.st_mtime_ns == 1_000_000_000_500_000_000
    assert file.st_nlink == 2
    assert (stat.S_IMODE(made.st_mode), made.st_mtime) == (0o750, 86_400)
    assert stat.S_IMODE((target.root / "deep").stat().st_mode) == 0o755
    assert stat.S_IMODE((target.root / "deep/er/file").stat().st_mode) == 0o400
    assert (target.root / "d/s").lstat().st_mtime == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_are_kept(target: Any) -> None:
    target.unpack([member("f", b"", uid=1000, gid=100), directory("d", uid=7), symbolic("s", "f", uid=8)])
    assert ((target.root / "f").stat().st_uid, (target.root / "f").stat().st_gid) == (1000, 100)
    assert (target.root / "d").stat().st_uid == 7
    assert (target.root / "s").lstat().st_uid == 8


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ([[A, B], [member(".wh.a")]], {"d": "dir", "d/b": "B"}),
        ([[A, B], [member("d/.wh.b")]], {"a": "A", "d": "dir"}),
        ([[A, B], [member(".wh.d")]], {"a": "A"}),
        ([[A], [member(".wh.nothing"), member("no/.wh.where")]], {"a": "A"}),
        ([[B], [member("d/.wh..wh..opq"), member("d/c", b"C")]], {"d": "dir", "d/c": "C"}),
        ([[B], [member("d/c", b"C"), member("d/.wh..wh..opq")]], {"d": "dir", "d/c": "C"}),
        (
            [[member("d/e/x", b"X")], [member("d/e/c", b"C"), member("d/.wh..wh..opq")]],
            {"d": "dir", "d/e": "dir", "d/e/c": "C"},
        ),
        ([[A, B], [member(".wh..wh..opq"), member("c", b"C")]], {"c": "C"}),
        # In one layer, a whiteout is of what lies below, wherever it stands.
        ([[A], [member("a", b"new"), member(".wh.a")]], {"a": "new"}),
        ([[A], [member(".wh.a"), member("a", b"new")]], {"a": "new"}),
        ([[B], [member("d/c", b"C"), member(".wh.d")]], {"d": "dir", "d/c": "C"}),
        ([[A], [member(".wh..wh.plnk/1.2", b"x"), member(".wh..wh.aufs", b"")]], {"a": "A"}),
        ([[A], [member(".wh.a")], [member("a", b"again")]], {"a": "again"}),
        # Something else in its place.
        ([[A], [directory("a")]], {"a": "dir"}),
        ([[B], [member("d", b"file")]], {"d": "file"}),
        ([[B], [directory("d", 0o700)]], {"d": "dir", "d/b": "B"}),
        ([[B], [symbolic("d", "elsewhere")]], {"d": "-> elsewhere"}),
        ([[symbolic("a", "b")], [member("a", b"no link")]], {"a": "no link"}),
        ([[symbolic("d", "e"), directory("e")], [directory("d")]], {"d": "dir", "e": "dir"}),
        ([[A, hard("b", "a")], [member("a", b"new")]], {"a": "new", "b": "A"}),
        ([[A], [hard("b", "a")]], {"a": "A", "b": "A"}),
        ([[symbolic("s", "x")], [hard("b", "s")]], {"b": "-> x", "s": "-> x"}),
        # Through links, as a process with that root would go.
        (
            [[directory("usr/lib"), symbolic("lib", "usr/lib")], [member("lib/f", b"F")]],
            {"lib": "-> usr/lib", "usr": "dir", "usr/lib": "dir", "usr/lib/f": "F"},
        ),
        (
            [[symbolic("run", "/var/run"), member("run/x", b"X")]],
            {"run": "-> /var/run", "var": "dir", "var/run": "dir", "var/run/x": "X"},
        ),
        (
            [[directory("usr/lib"), member("usr/lib/f"), symbolic("lib", "usr/lib")], [member("lib/.wh.f")]],
            {"lib": "-> usr/lib", "usr": "dir", "usr/lib": "dir"},
        ),
    ],
)
def test_layers_lie_over_each_other(target: Any, layers: list[list[Member]], names: dict[str, str]) -> None:
    target.unpack(*layers)
    assert target.names() == names


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ([[symbolic("up", ".."), member("up/x", b"X")]], {"up": "-> ..", "x": "X"}),
        ([[symbolic("up", "../../../.."), member("up/sentinel/kept", b"X")]], None),
        ([[symbolic("s", "../sentinel")], [member("s/kept", b"X")]], None),
        ([[symbolic("s", "{sentinel}"), member("s/kept", b"X")]], None),
        ([[symbolic("s", "{sentinel}/kept"), member("s", b"X")]], {"s": "X"}),
        ([[symbolic("a", "b"), symbolic("b", "../sentinel"), member("a/kept", b"X")]], None),
        ([[symbolic("s", "../sentinel"), member("s/.wh.kept")]], None),
        ([[symbolic("s", "../sentinel"), member("s/.wh..wh..opq")]], None),
        ([[symbolic("s", "{sentinel}")], [member(".wh.s")]], {}),
        ([[symbolic("s", "{sentinel}"), directory("s", 0o777)]], {"s": "dir"}),
    ],
)
def test_no_link_leads_out(target: Any, layers: list[list[Member]], names: dict[str, str] | None) -> None:
    for layer in layers:
        for info, _ in layer:
            info.linkname = info.linkname.replace("{sentinel}", str(target.sentinel))
    target.unpack(*layers)
    target.assert_untouched()
    assert names is None or target.names() == names


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ([member("../x")], "'../x': a path with `..`"),
        ([member("a/../../x")], "a path with `..`"),
        ([member("..")], "a path with `..`"),
        ([hard("x", "../sentinel/kept")], "'x': a path with `..`"),
        ([hard("x", "{sentinel}/kept")], "kept', which is not there"),
        ([symbolic("s", "../sentinel"), hard("x", "s/kept")], "a hard link to 's/kept', which is not there"),
        ([hard("x", "nothing")], "a hard link to 'nothing', which is not there"),
        ([directory("d"), hard("x", "d")], "a hard link to 'd', a directory"),
        ([A, hard("a", "a")], "'a': a hard link to itself"),
        ([B, hard("d", "d/b")], "a hard link in the place of a directory"),
        ([A, member("a/b")], "'a/b': it lies in 'a', which is no directory"),
        ([symbolic("l", "l"), member("l/x")], "more than 40 symbolic links"),
        ([member(".")], "the root is no directory"),
        ([member(".wh.")], "a whiteout of no name"),
        ([member("d/.wh...")], "a whiteout of no name"),
        ([member("d/.wh.x/y")], "it lies in a whiteout"),
        ([member("f", uid=2**32 - 1)], "4294967295 is the number of no user or group"),
        ([member("x" * 256)], "a name of more than 255 bytes"),
        ([member(f"{'x' * 256}/y")], "a name of more than 255 bytes"),
        ([member("/".join(["x" * 200] * 11))], "a path of 2211 bytes, more than 2048"),
        ([member("/".join(["d"] * 300))], "more than 256 directories in each other"),
        ([member("x" * 5000)], "a name of more than 4096 bytes"),
        ([symbolic("x", "y" * 5000)], "a link of more than 4096 bytes"),
        (
            [member("a", pax_headers={"comment": "x" * (1 << 20)})],
            "extended headers of more than 1048576 bytes",
        ),
        ([member("a", pax_headers={"GNU.sparse.major": "1"})], "'a' is a sparse file"),
    ],
)
def test_what_is_refused(target: Any, layer: list[Member], words: str) -> None:
    for info, _ in layer:
        info.linkname = info.linkname.replace("{sentinel}", str(target.sentinel))
    with pytest.raises(LayerError) as caught:
        target.unpack(layer)
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_left_out(target: Any, kind: bytes) -> None:
    unpacker = target.unpack([A, member("n")], [member("n", type=kind), member("dev/null", type=kind)])
    assert target.names() == {"a": "A", "dev": "dir"}
    assert unpacker.left_out == 2


def test_more_than_a_node_takes(target: Any) -> None:
    with pytest.raises(LimitError, match="more than 200000 entries"):
        target.unpack([A], [B, member("c")], max_entries=2)
    for compression in Compression:
        with pytest.raises(LimitError, match="hold more than 8589934592 bytes, unpacked"):
            target.unpack([member("bomb", bytes(1 << 20))], compression=compression, max_size=1 << 19)
    with pytest.raises(LimitError, match="bytes, unpacked"):
        target.unpack([member("a", bytes(6000))], [member("b", bytes(6000))], max_size=20_000)


def test_the_archive_is_the_one_that_the_config_names(target: Any, tmp_path: Path) -> None:
    opened = os.open(target.root, os.O_RDONLY)
    try:
        with pytest.raises(LayerError, match=r"the archive is sha512:.*, the image config says sha512:"):
            Unpacker(Tree(opened)).apply(
                io.BytesIO(archive([A])), Compression.NONE, digests.of(b"another", "sha512")
            )
    finally:
        os.close(opened)
