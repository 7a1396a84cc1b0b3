"""Directories of images that are made while somebody is killed, or makes the same."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tars import TAR, archive, member
from waiting import eventually

from oci import digests
from oci.layers.unpacked import Layer, Unpacked
from oci.reference import parse

DIGEST = digests.of(b"manifest")
FILES = {f"d{number % 50}/f{number}": b"%d" % number * 100 for number in range(600)}

PROGRAM = """
import sys
from pathlib import Path
from oci.layers.unpacked import Layer, Unpacked
from oci.reference import parse
unpacked = Unpacked(Path(sys.argv[1]))
unpacked.open()
layer = Layer(Path(sys.argv[3]), sys.argv[4], "sha256:l", sys.argv[5])
unpacked.files(parse("x.example/app:v1"), sys.argv[2], [layer])
print("done", flush=True)
"""


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    data = archive(member(name, content) for name, content in FILES.items())
    path = tmp_path / "layer"
    path.write_bytes(data)
    return Layer(path, TAR, digests.of(data), digests.of(data))


def whole(unpacked: Unpacked, layer: Layer) -> None:
    files = unpacked.files(parse("x.example/app:v1"), DIGEST, [layer])
    found = {str(p.relative_to(files.root)): p.read_bytes() for p in files.root.rglob("*") if p.is_file()}
    assert found == FILES


@pytest.mark.parametrize("after", [0, 1, 10, 40])
def test_whoever_is_killed_leaves_all_or_nothing(tmp_path: Path, layer: Layer, after: int) -> None:
    root = tmp_path / "unpacked"
    arguments = [str(root), DIGEST, str(layer.path), layer.media_type, layer.diff_id]
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE) as process:
        # As many of its directories are there, or it is done.
        eventually(
            lambda: len(list(root.glob(".new-*/rootfs/*"))) >= after or process.poll() is not None,
            "directories to be unpacked",
        )
        process.send_signal(signal.SIGKILL)
    again = Unpacked(root)
    again.open()
    assert [path.name for path in root.iterdir()] in ([], [DIGEST.partition(":")[2]])
    whole(again, layer)
    assert [path.name for path in root.iterdir()] == [DIGEST.partition(":")[2]]


def test_several_make_the_same(tmp_path: Path, layer: Layer) -> None:
    stores = [Unpacked(tmp_path / "unpacked") for _ in range(4)]
    for store in stores:
        store.open()
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(whole, store, layer) for store in stores]:
            done.result()
    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == [DIGEST.partition(":")[2]]


def test_what_another_makes_is_left_alone(tmp_path: Path, layer: Layer) -> None:
    ours, theirs = Unpacked(tmp_path / "unpacked"), Unpacked(tmp_path / "unpacked")
    ours.open()
    with theirs._fresh() as fresh:
        (fresh / "rootfs").mkdir()
        ours.open()
        assert (fresh / "rootfs").is_dir()
        whole(ours, layer)
        ours.remove_all_but([])
        assert (fresh / "rootfs").is_dir()
    assert list((tmp_path / "unpacked").iterdir()) == []


@pytest.mark.parametrize("when", ["open", "flock"])
def test_what_another_sweeps_away_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    root = tmp_path / "unpacked"
    unpacked = Unpacked(root)
    unpacked.open()
    module = {"open": os, "flock": fcntl}[when]
    real = getattr(module, when)
    swept: list[Path] = []

    def slow(*arguments: Any, **keywords: Any) -> Any:
        if not swept:
            swept.extend(root.iterdir())
            swept[0].rmdir()
        return real(*arguments, **keywords)

    monkeypatch.setattr(module, when, slow)
    with unpacked._fresh() as fresh:
        assert swept
        assert [*root.iterdir()] == [fresh] != swept
    assert [*root.iterdir()] == []
