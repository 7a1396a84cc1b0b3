"""emptyDir: where it is, how large it may be, and what is too much."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from vkubelet.api.objects import Pod
from vkubelet.api.volumes import EmptyDirVolumeSource, Volume
from vkubelet.pods.volumes import tmpfs
from vkubelet.pods.volumes.emptydir import EmptyDir, exceeded, memory_size
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.layout import Layout

GIB = 1 << 30


def pod(*limits: str | None, group: int | None = None, level: str | None = None) -> Pod:
    containers = [
        {"name": f"c{index}", "resources": {"limits": {"memory": limit}} if limit else {}}
        for index, limit in enumerate(limits)
    ]
    spec: dict[str, Any] = {"containers": containers, "securityContext": {"fsGroup": group}}
    if level is not None:
        spec["resources"] = {"limits": {"memory": level}}
    return msgspec.convert({"metadata": {"uid": "u"}, "spec": spec}, Pod)


@pytest.mark.parametrize(
    ("limits", "level", "own", "expected"),
    [
        ([None], None, None, GIB),
        (["64Mi", "64Mi"], None, None, 128 << 20),
        (["64Mi", None], None, None, GIB),
        (["64Mi", None], "256Mi", None, 256 << 20),
        (["64Mi"], None, "1Mi", 1 << 20),
        (["64Mi"], None, "65Mi", 64 << 20),
        (["64Mi"], None, "0", 64 << 20),
        (["4Gi"], None, None, GIB),
    ],
)
def test_memory_has_the_least_size_that_anybody_allows(
    limits: list[str | None], level: str | None, own: str | None, expected: int
) -> None:
    source = EmptyDirVolumeSource(medium="Memory", size_limit=own)
    assert memory_size(source, pod(*limits, level=level), GIB) == expected


def test_a_limit_that_is_none_is_told() -> None:
    with pytest.raises(SetUpError, match="sizeLimit"):
        memory_size(EmptyDirVolumeSource(size_limit="many"), pod(None), GIB)


async def made(tmp_path: Path, wanted: Pod, **source: Any) -> Path:
    kind = EmptyDir(Layout.of(tmp_path / "root", tmp_path / "run"), lambda: {"memory": GIB})
    volume = msgspec.convert({"name": "v", "emptyDir": source}, Volume)
    mounted = (await kind.prepare(wanted, volume)).apply()
    assert not mounted.read_only
    return mounted.path


async def test_one_on_disk_survives_a_boot_and_belongs_to_all_of_the_pod(tmp_path: Path) -> None:
    path = await made(tmp_path, pod(None))
    assert path == tmp_path / "root" / "pods" / "u" / "volumes" / "kubernetes.io~empty-dir" / "v"
    assert path.stat().st_mode & 0o7777 == 0o777
    (path / "kept").touch()
    path.chmod(0o755)
    assert await made(tmp_path, pod(None)) == path
    assert path.stat().st_mode & 0o7777 == 0o755
    assert (path / "kept").exists()


async def test_one_that_an_agent_did_not_finish_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "root" / "pods" / "u" / "volumes" / "kubernetes.io~empty-dir" / "v"
    path.mkdir(parents=True, mode=0o700)
    await made(tmp_path, pod(None))
    assert path.stat().st_mode & 0o7777 == 0o777


async def test_a_mode_and_a_group_are_kept(tmp_path: Path) -> None:
    group = 4321 if os.geteuid() == 0 else os.getgid()
    path = await made(tmp_path, pod(None, group=group), mode=0o750)
    assert path.stat().st_mode & 0o777 == 0o750
    assert path.stat().st_gid == group


async def test_one_in_memory_is_full_at_its_limit_or_is_a_directory(tmp_path: Path) -> None:
    path = await made(tmp_path, pod(None), medium="Memory", sizeLimit="64Ki")
    assert path.stat().st_mode & 0o7777 == 0o1777
    if os.geteuid() != 0:
        assert not path.is_mount()
        return
    try:
        with pytest.raises(OSError, match="No space"):
            (path / "large").write_bytes(b"x" * 65 * 1024)
        assert await made(tmp_path, pod(None), medium="Memory", sizeLimit="64Ki") == path
        assert (path / "large").exists()
    finally:
        tmpfs.unmount(path)


async def test_media_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetUpError, match='unknown storage medium "Paper"'):
        await made(tmp_path, pod(None), medium="Paper")
    with pytest.raises(SetUpError, match="huge pages cannot be given"):
        await made(tmp_path, pod(None), medium="HugePages")


def test_what_exceeds_its_limit_is_told_in_the_kubelets_words(tmp_path: Path) -> None:
    volumes = [
        Volume(name="free", empty_dir=EmptyDirVolumeSource()),
        Volume(name="small", empty_dir=EmptyDirVolumeSource(size_limit="16Ki")),
    ]
    found = [(volume, tmp_path / volume.name) for volume in volumes]
    for _, path in found:
        path.mkdir()
        (path / "file").write_bytes(b"x" * 8192)
    assert exceeded(found) is None
    (tmp_path / "small" / "more").write_bytes(b"x" * 16384)
    assert exceeded(found) == 'Usage of EmptyDir volume "small" exceeds the limit "16Ki". '
