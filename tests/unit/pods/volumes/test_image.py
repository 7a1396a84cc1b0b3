"""image: the module of an artifact is a file, also of a newer one beside the older."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from oci.images import Image, ImageConfig
from oci.layers.unpacked import ImageFiles
from oci.reference import parse
from vkubelet.pods.volumes.image import show
from vkubelet.pods.volumes.kinds import Mounted


def image(tmp_path: Path, content: bytes, digest: str, name: str = "example.com/team/app:v1") -> Image:
    module = tmp_path / digest
    module.write_bytes(content)
    module.chmod(0o600)
    reference = parse(name)
    return Image(reference, f"sha256:m{digest}", module, f"sha256:{digest}", 1, (), ImageConfig())


def test_the_module_is_a_file_and_stays_while_newer_ones_come(tmp_path: Path) -> None:
    where = tmp_path / "volume"
    old = show(where, image(tmp_path, b"old", "a"))
    new = show(where, image(tmp_path, b"new", "b", "example.com/team/app.wasm:v1"))
    assert old == Mounted(where / "a", read_only=True)
    assert (old.path / "app.wasm").read_bytes() == b"old"
    assert (new.path / "app.wasm").read_bytes() == b"new"
    assert (new.path / "app.wasm").stat().st_mode & 0o777 == 0o444
    (old.path / ".app.wasm.new").write_bytes(b"of an agent that was killed")
    (old.path / "app.wasm").unlink()
    assert show(where, image(tmp_path, b"old", "a")) == old
    assert [entry.name for entry in old.path.iterdir()] == ["app.wasm"]


def test_the_files_of_an_image_stay_when_the_store_removes_them(tmp_path: Path) -> None:
    root, where = tmp_path / "unpacked", tmp_path / "volume"
    (root / "data").mkdir(parents=True)
    (root / "data/file").write_text("content")
    (root / "link").symlink_to("data/file")
    found = Image(
        parse("example.com/app:v1"), "sha256:d", None, "", 1, (), ImageConfig(), ImageFiles(root, {})
    )
    (where / ".d.new/of an agent").mkdir(parents=True)
    shown = show(where, found)
    assert shown == Mounted(where / "d", read_only=True)
    assert show(where, found) == shown
    assert sorted(path.name for path in where.iterdir()) == ["d"]
    assert sorted(path.name for path in shown.path.rglob("*")) == ["data", "file", "link"]
    assert (shown.path / "link").samefile(root / "data/file")
    shutil.rmtree(root)
    assert (shown.path / "link").read_text() == "content"


def test_a_module_of_another_file_system_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    shown = show(tmp_path / "volume", image(tmp_path, b"module", "a"))
    assert (shown.path / "app.wasm").read_bytes() == b"module"
