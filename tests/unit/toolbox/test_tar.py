"""tar: round trips with GNU's, what kubectl cp calls, and archives that mean harm."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest


def gnu(*args: str, cwd: Path, stdin: bytes = b"") -> bytes:
    return subprocess.run(["tar", *args], cwd=cwd, input=stdin, stdout=subprocess.PIPE, check=True).stdout


def archive(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                made.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                made.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def tree(where: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(where.rglob("*")):
        name = str(path.relative_to(where))
        found[name] = (
            str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        )
    return found


@pytest.fixture
def sample(tmp_path) -> Path:
    where = tmp_path / "sample"
    (where / "d" / "deep" / ("n" * 120)).mkdir(parents=True)
    (where / "d" / "empty").touch()
    (where / "d" / "bytes").write_bytes(bytes(range(256)) * 5000)
    (where / "d" / "with space é").write_text("x")
    (where / "d" / "deep" / ("n" * 120) / ("m" * 120)).write_text("long")
    (where / "d" / "link").symlink_to("bytes")
    os.link(where / "d" / "with space é", where / "d" / "hard")
    return where


@pytest.mark.parametrize("form", [("xmf", "-", "-C", "/in"), ("-xmf", "-", "-C", "/in"), ("-x", "-C", "in")])
def test_what_gnu_packs_is_unpacked(guest, sample, form):
    (guest.root / "in").mkdir()
    done = guest.run("tar", *form, stdin=gnu("cf", "-", "d", cwd=sample))
    assert (done.status, done.err) == (0, "")
    assert tree(guest.root / "in") == tree(sample)
    assert (guest.root / "in/d/hard").stat().st_nlink == 2


@pytest.mark.parametrize("compressed", ["", "z"])
def test_what_is_packed_is_what_gnu_unpacks(guest, sample, tmp_path, compressed):
    done = guest.run("tar", f"c{compressed}f", "-", "d", mounts={"/s": sample}, env={"PWD": "/s"})
    assert (done.status, done.err) == (0, "")
    target = tmp_path / "out"
    target.mkdir()
    gnu(f"x{compressed}f", "-", cwd=target, stdin=done.out)
    assert tree(target) == tree(sample)


def test_compressed_archives_are_recognized(guest, sample):
    for letter in "zj":
        data = gnu(f"c{letter}f", "-", "d", cwd=sample)
        assert "d/empty" in guest.run("tar", "tf", "-", stdin=data).text.splitlines()


def test_members_are_chosen_and_left_out(guest):
    made = archive(("a/x", b"1"), ("a/y", b"2"), ("b/x", b"3"))
    assert guest.run("tar", "tf", "-", "a", stdin=made).text == "a/x\na/y\n"
    assert guest.run("tar", "tf", "-", "--exclude", "x", stdin=made).text == "a/y\n"
    assert guest.run("tar", "xOf", "-", "b/x", stdin=made).text == "3"
    assert guest.run("tar", "xf", "-", "--strip-components=1", "a/y", stdin=made).text == ""
    assert tree(guest.root) == {"y": b"2"}
    done = guest.run("tar", "tf", "-", "none", stdin=made)
    assert (done.status, done.err.splitlines()[0]) == (2, "tar: none: Not found in archive")


@pytest.mark.parametrize(
    "made",
    [
        archive(("../evil", b"x")),
        archive(("d/../../evil", b"x")),
        archive(link("out", ".."), ("out/evil", b"x")),
        archive(link("out", "../root/.."), ("out/evil", b"x")),
        archive(link("hard", "../secret", tarfile.LNKTYPE)),
        archive(link("soft", "../secret"), ("soft", b"overwritten")),
        archive(link("a", ".."), link("b", "a/secret"), ("b", b"overwritten")),
    ],
)
def test_no_archive_leads_out_of_its_target(guest, tmp_path, made):
    """The target is a directory below the root, so that WASI's own confinement does not help."""
    target = guest.root / "target"
    target.mkdir()
    (guest.root / "secret").write_text("safe")
    guest.run("tar", "xf", "-", "-C", "/target", stdin=made)
    assert sorted(path.name for path in guest.root.iterdir()) == ["secret", "target"]
    assert (guest.root / "secret").read_text() == "safe"
    assert not (target / "hard").exists()


def test_a_file_is_not_written_through_a_link_in_its_place(guest):
    (guest.root / "kept").write_text("kept")
    (guest.root / "f").symlink_to("kept")
    assert guest.run("tar", "xf", "-", stdin=archive(("f", b"new"))).status == 0
    assert tree(guest.root) == {"f": b"new", "kept": b"kept"}


@pytest.mark.parametrize("data", [b"", b"no archive" * 100, archive(("f", b"x" * 5000))[:3000]])
def test_what_is_no_whole_archive_is_an_error(guest, data):
    done = guest.run("tar", "xf", "-", stdin=data)
    assert done.status == 2
    assert done.err.startswith("tar: ")


def test_absolute_names_become_relative(guest):
    (guest.root / "f").write_text("x")
    done = guest.run("tar", "cf", "-", "/f")
    assert done.err == "tar: Removing leading `/' from member names\n"
    with tarfile.open(fileobj=io.BytesIO(done.out)) as made:
        assert made.getnames() == ["f"]


def test_an_archive_that_is_not_whole_is_read_to_the_end_of_its_stream(guest):
    (guest.root / "f").write_text("x")
    end = bytes(2 * tarfile.BLOCKSIZE)
    assert guest.run("tar", "cf", "-", "f").out.endswith(end)
    done = guest.run("tar", "cf", "-", "f", "none")
    assert done.status == 2
    assert done.err.startswith("tar: none: Cannot stat: No such file or directory\n")
    assert not done.out.endswith(end)
    with tarfile.open(fileobj=io.BytesIO(done.out)) as made:
        assert made.getnames() == ["f"]
    assert guest.run("tar", "cf", "-", "none").out == b""
    assert guest.run("tar", "cf", "/made", "f", "none").status == 2
    assert (guest.root / "made").read_bytes().endswith(end)


def test_misuse_is_refused(guest):
    for args in [
        (),
        ("f",),
        ("cf", "-"),
        ("xtf", "-"),
        ("cjf", "-", "x"),
        ("xf", "nope"),
        ("cf", "-", "nope"),
    ]:
        assert guest.run("tar", *args).status == 2
