"""hostPath: every type, what fits it, and the kubelet's words for what does not."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from vkubelet.api.volumes import HostPathVolumeSource
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.hostpath import check


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Something of each type."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    found = {name: tmp_path / name for name in ("dir", "file", "pipe", "socket", "missing")}
    return {**found, "device": Path("/dev/null")}


def cause(path: Path | str, kind: str) -> str | None:
    try:
        assert check(HostPathVolumeSource(path=str(path), type=kind)) == Path(path)
    except SetUpError as error:
        return str(error)
    return None


NAMES = {
    "Directory": "directory",
    "DirectoryOrCreate": "directory",
    "File": "file",
    "FileOrCreate": "file",
    "Socket": "socket file",
    "CharDevice": "character device",
    "BlockDevice": "block device",
}
FITTING = {"Directory": "dir", "File": "file", "Socket": "socket", "CharDevice": "device"}
FOUND = {"dir": "Directory", "file": "File", "socket": "Socket", "device": "CharDevice"}


@pytest.mark.parametrize("place", FOUND)
@pytest.mark.parametrize("kind", NAMES)
def test_what_is_there_is_what_it_should_be_or_is_named(
    places: dict[str, Path], kind: str, place: str
) -> None:
    path = places[place]
    expected = (
        None
        if FITTING.get(kind.removesuffix("OrCreate")) == place
        else f"hostPath type check failed: {path} is not a {NAMES[kind]}, it's a {FOUND[place]}"
    )
    assert cause(path, kind) == expected


@pytest.mark.parametrize("kind", ["Directory", "File", "Socket", "CharDevice", "BlockDevice"])
def test_what_is_not_there_is_told(places: dict[str, Path], kind: str) -> None:
    path = places["missing"]
    assert cause(path, kind) == (
        f"hostPath type check failed, {path} is not a {NAMES[kind]}, "
        f'unable to determine its type: path "{path}" does not exist'
    )
    assert not path.exists()


def test_what_may_be_made_is(places: dict[str, Path], tmp_path: Path) -> None:
    assert cause(tmp_path / "a" / "b", "DirectoryOrCreate") is None
    assert (tmp_path / "a" / "b").is_dir()
    assert cause(tmp_path / "a" / "file", "FileOrCreate") is None
    assert (tmp_path / "a" / "file").is_file()
    assert cause(places["missing"], "") is None
    assert places["missing"].is_dir()
    with pytest.raises(FileNotFoundError):
        check(HostPathVolumeSource(path=str(tmp_path / "no" / "file"), type="FileOrCreate"))


def test_without_a_type_anything_does(places: dict[str, Path]) -> None:
    for path in places.values():
        assert cause(path, "") is None


def test_mistakes_are_told(places: dict[str, Path]) -> None:
    assert cause("/a/../b", "") == "invalid HostPath `/a/../b`: must not contain '..'"
    assert cause("a", "") == "invalid HostPath `a`: must be an absolute path"
    assert cause("/", "Folder") == "Folder is an invalid volume type"
    assert cause("/", "SocketOrCreate") == "SocketOrCreate is an invalid volume type"
    assert cause(places["pipe"], "File") == (
        f"hostPath type check failed, {places['pipe']} is not a file, unable to determine its type: "
        "only recognise file, directory, socket, block device and character device"
    )
    below = places["file"] / "x"
    assert cause(below, "File") == (
        f"hostPath type check failed, {below} is not a file, unable to determine its type: "
        f"stat {below}: not a directory"
    )
