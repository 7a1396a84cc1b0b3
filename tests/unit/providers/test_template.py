"""Root directories that begin with an image's files: copies, or those themselves for who only reads."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until

from providers.base import ExitReason, FileMount, Identity, InvalidSpecError, Preopen, ProviderError
from providers.copying import copy_tree

from .conftest import Node, guest
from .test_rootfs import elsewhere  # noqa: F401  a fixture
from .test_run import complete


@pytest.fixture
def template(tmp_path: Path) -> Iterator[Path]:
    """Files, links and modes, with a link that leads out and one in the place of a mount."""
    root = tmp_path / "template"
    (root / "data/deep").mkdir(parents=True)
    (root / "data/kept").write_text("kept")
    (root / "data/deep/file").write_text("deep")
    os.link(root / "data/kept", root / "same")
    (root / "link").symlink_to("data/kept")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "data").chmod(0o750)
    os.utime(root / "data/kept", ns=(1, 2))
    os.utime(root / "data", ns=(3, 4))
    (tmp_path / "outside").mkdir()
    yield root
    assert (root / "data/kept").read_text() == "kept"
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("share", [False, True])
def test_a_tree_is_copied(template: Path, tmp_path: Path, share: bool) -> None:
    target = tmp_path / "target"
    target.mkdir()
    copy_tree(template, target, share=share)
    assert (target / "data/kept").read_text() == "kept"
    assert (target / "data/deep/file").read_text() == "deep"
    assert (target / "out").readlink() == tmp_path / "outside"
    assert (target / "same").stat().st_ino == (target / "data/kept").stat().st_ino
    assert ((target / "same").stat().st_ino == (template / "same").stat().st_ino) is share
    assert (target / "data/kept").stat().st_mtime_ns == 2
    assert (target / "data").stat().st_mtime_ns == 4
    assert stat.S_IMODE((target / "data").stat().st_mode) == 0o750
    if os.geteuid() == 0:
        os.chown(template / "same", 7, 8)
        os.lchown(template / "link", 9, 9)
        other = tmp_path / "owned"
        other.mkdir()
        copy_tree(template, other, share=share)
        assert ((other / "same").stat().st_uid, (other / "same").stat().st_gid) == (7, 8)
        assert (other / "link").lstat().st_uid == 9


def test_what_cannot_be_shared_is_copied(template: Path, elsewhere: Path) -> None:  # noqa: F811
    copy_tree(template, elsewhere, share=True)
    assert (elsewhere / "same").read_text() == "kept"
    assert (elsewhere / "same").stat().st_ino == (elsewhere / "data/kept").stat().st_ino


@pytest.mark.parametrize("share", [False, True])
def test_what_is_there_stays(template: Path, tmp_path: Path, share: bool) -> None:
    target = tmp_path / "target"
    (target / "out").mkdir(parents=True)
    (target / "data/kept").mkdir(parents=True)
    (target / "link").write_text("mine")
    (target / "same").symlink_to("nowhere")
    copy_tree(template, target, share=share)
    assert (target / "out").is_dir()
    assert not (target / "out").is_symlink()
    assert (target / "data/kept").is_dir()
    assert (target / "link").read_text() == "mine"
    assert (target / "same").readlink() == Path("nowhere")
    assert (target / "data/deep/file").read_text() == "deep"
    (target / "data/deep/file").unlink()
    (target / "data/deep").rmdir()
    (target / "data/deep").write_text("a file")
    copy_tree(template, target, share=share)
    assert (target / "data/deep").read_text() == "a file"


async def test_a_guest_has_files_of_its_own(node: Node, template: Path, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("placed")
    (tmp_path / "volume").mkdir()
    words = ["read", "/data/kept", "read", "/link", "read", "/out/hosts", "write", "/data/kept", "changed",
             "read", "/same", "write", "/new", "x", "write", "/data/deep/x", "y"]  # fmt: skip
    ended, lines = await node.run(
        guest("files"),
        *words,
        template=template,
        files=(FileMount(tmp_path / "hosts", "/out/hosts", read_only=True),),
        preopens=(Preopen(tmp_path / "volume", "/data/deep"),),
    )
    assert (ended.code, ended.reason) == (0, ExitReason.COMPLETED), lines
    assert lines == [
        "stdout F /data/kept: kept",
        "stdout F /link: kept",
        "stdout F /out/hosts: placed",
        "stdout F /same: changed",
    ]
    assert (tmp_path / "volume/x").read_text() == "y"
    assert not (template / "new").exists()


async def test_a_guest_that_only_reads_shares_them(node: Node, template: Path) -> None:
    state = await node.start(guest("nap"), template=template, read_only_root=True, network=True)
    (root,) = node.roots_dir.glob("*/*")
    assert node.provider.root(state.id).resolve() == root
    assert (root / "same").stat().st_ino == (template / "same").stat().st_ino
    await node.provider.kill(state.id)
    await node.next_end()
    await node.provider.remove(state.id)
    assert list(node.roots_dir.glob("*/*")) == []
    ended, lines = await node.run(
        guest("files"), "read", "/same", "write", "/same", "x", template=template, read_only_root=True
    )
    assert ended.code == 1
    assert lines[0] == "stdout F /same: kept"


async def test_an_instance_is_in_the_same_root(node: Node, template: Path) -> None:
    state = await node.start(guest("nap"), template=template, network=True)
    root = node.provider.root(state.id)
    ended, output, _ = await complete(node, "files", "read", "/same", "write", "/by-exec", "x", root=root)
    assert (ended.code, output) == (0, b"/same: kept\n")
    assert (root / "by-exec").read_text() == "x"
    usage = await node.provider.usage([state.id])
    await node.provider._meter.walked()
    usage = await node.provider.usage([state.id])
    # The template's own files are not the container's doing.
    assert usage[state.id].inodes == 2
    assert 0 <= usage[state.id].disk <= 16384


async def test_another_agent_finds_and_removes_it(node: Node, template: Path) -> None:
    state = await node.start(guest("nap"), template=template, network=True)
    await until((node.container(state.id) / "started").exists)
    (roots,) = node.roots_dir.iterdir()
    stray = roots / ("0" * 64)
    (stray / "rootfs").mkdir(parents=True)
    (stray / "rootfs/x").touch()
    await node.vanish()
    found = await node.open()
    assert [one.id for one in found] == [state.id]
    await until(lambda: not stray.exists())
    assert (roots / state.id / "same").read_text() == "kept"
    assert node.provider.root(state.id).resolve() == roots / state.id
    await node.provider.kill(state.id)
    await node.next_end()
    await node.provider.remove(state.id)
    assert list(roots.iterdir()) == []


async def test_what_cannot_be_copied_is_told(
    node: Node, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidSpecError, match=r"template: .* is not a directory"):
        await node.start(guest("nap"), template=template / "none")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "some/file")

    monkeypatch.setattr("providers.copying._copy_bytes", full)
    with pytest.raises(ProviderError, match="copying the image's files: some/file: No space left on device"):
        await node.start(guest("nap"), template=template)
    assert list(node.roots_dir.glob("*/*")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
async def test_files_of_the_guests_user(node: Node, template: Path) -> None:
    (template / "same").chmod(0o600)
    os.chown(template / "same", 1000, 1000)
    (template / "data/deep/file").chmod(0o600)
    (template / "data").chmod(0o755)
    ended, lines = await node.run(
        guest("files"),
        *("read", "/same", "write", "/same", "x", "write", "/own", "y", "read", "/data/deep/file"),
        template=template,
        identity=Identity(1000, 1000),
    )
    assert ended.code == 1
    assert lines == ["stdout F /same: kept", "stdout F read /data/deep/file: Permission denied"]
