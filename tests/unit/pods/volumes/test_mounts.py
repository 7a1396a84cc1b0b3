"""volumeMounts: what a container sees, and what a guest's links and a spec's mistakes come to."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from providers.base import FileMount, Preopen
from vkubelet.api.containers import Container
from vkubelet.pods.volumes.kinds import Mounted
from vkubelet.pods.volumes.mounts import MountError, Mounts, mounts

ENV = {"POD": "web-0", "EMPTY": ""}


def see(path: Path, read_only_volume: bool = False, **mount: Any) -> Mounts:
    mounted = {"v": Mounted(path, read_only_volume)}
    document = {"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/mnt", **mount}]}
    return mounts(msgspec.convert(document, Container), mounted, ENV)


def fails(path: Path, **mount: Any) -> str:
    with pytest.raises(MountError) as failure:
        see(path, **mount)
    return str(failure.value)


def test_directories_and_files_are_seen_each_in_its_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert see(tmp_path) == Mounts((Preopen(tmp_path, "/mnt"),))
    assert see(tmp_path, read_only_volume=True) == Mounts((Preopen(tmp_path, "/mnt", read_only=True),))
    assert see(tmp_path, readOnly=True, mountPath="a/b/") == Mounts((Preopen(tmp_path, "/a/b", True),))
    assert see(tmp_path / "file") == Mounts(files=(FileMount(tmp_path / "file", "/mnt"),))


def test_a_sub_path_is_a_directory_or_a_file_of_the_volume(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "key").touch()
    (tmp_path / "key").symlink_to("..data/key")
    assert see(tmp_path, subPath="key") == Mounts(files=(FileMount(tmp_path, "/mnt", beneath="key"),))
    assert see(tmp_path, subPath=".") == Mounts((Preopen(tmp_path, "/mnt"),))
    found = see(tmp_path, subPathExpr="$(POD)/logs", readOnly=True)
    assert found == Mounts((Preopen(tmp_path, "/mnt", read_only=True, beneath="web-0/logs"),))
    assert (tmp_path / "web-0" / "logs").is_dir()


def test_a_sub_path_that_is_not_there_is_made_with_the_volumes_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o2777)
    before = os.umask(0o077)
    try:
        see(tmp_path, subPath="a/b")
    finally:
        os.umask(before)
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o2777


@pytest.mark.parametrize(
    ("mount", "cause"),
    [
        ({"subPath": "/etc"}, "error SubPath `/etc` must not be an absolute path"),
        ({"subPath": "a/../../b"}, "unable to provision SubPath `a/../../b`: must not contain '..'"),
        ({"subPathExpr": "$(NO)/$(EMPTY)/$(POD)"}, "missing value for EMPTY, NO"),
        ({"subPathExpr": "$(POD)/../x"}, "unable to provision SubPath `web-0/../x`: must not contain '..'"),
        (
            {"recursiveReadOnly": "Enabled"},
            'volume "v" requested recursive read-only mode, but it is not read-only',
        ),
        (
            {"readOnly": True, "recursiveReadOnly": "Perhaps"},
            'unknown recursive read-only mode "Perhaps"',
        ),
    ],
)
def test_mistakes_are_told_as_a_kubelet_does(tmp_path: Path, mount: dict[str, Any], cause: str) -> None:
    assert fails(tmp_path, **mount) == cause


@pytest.mark.parametrize("mode", ["IfPossible", "Enabled", "Disabled"])
def test_read_only_is_always_recursive(tmp_path: Path, mode: str) -> None:
    assert see(tmp_path, readOnly=True, recursiveReadOnly=mode).preopens[0].read_only


@pytest.mark.parametrize("mode", ["HostToContainer", "Bidirectional"])
def test_propagation_is_refused(tmp_path: Path, mode: str) -> None:
    assert "mounts; use None" in fails(tmp_path, mountPropagation=mode)
    assert see(tmp_path, mountPropagation="None").preopens


@pytest.mark.parametrize("link", ["..", "/", "../outside", "inner/../../outside"])
@pytest.mark.parametrize("beneath", ["link", "link/more"])
def test_a_link_out_of_the_volume_leads_nowhere(tmp_path: Path, link: str, beneath: str) -> None:
    volume = tmp_path / "volume"
    (volume / "inner").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (volume / "link").symlink_to(link)
    assert (
        fails(volume, subPath=beneath) == 'failed to prepare subPath for volumeMount "v" of container "main"'
    )
    assert list((tmp_path / "outside").iterdir()) == []


def test_nothing_is_made_through_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("missing")
    expected = 'failed to create subPath directory for volumeMount "v" of container "main"'
    assert fails(tmp_path, subPath="link/inner") == expected
    assert not (tmp_path / "missing").exists()


def test_a_sub_path_below_a_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    expected = 'failed to prepare subPath for volumeMount "v" of container "main"'
    assert fails(tmp_path, subPath="file/x") == expected
    assert fails(tmp_path / "file", subPath="x") == expected


def test_devices_and_sockets_are_refused(tmp_path: Path) -> None:
    assert "a character device" in fails(Path("/dev/null"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert "a socket" in fails(tmp_path, subPath="s")
    os.mkfifo(tmp_path / "p")
    assert "a named pipe" in fails(tmp_path / "p")


def test_a_volume_that_is_gone_is_an_error(tmp_path: Path) -> None:
    assert fails(tmp_path / "gone") == 'volume "v": no such file or directory'
    assert "failed to prepare" in fails(tmp_path / "gone", subPath="x")
