"""What a guest finds in its root directory: mount points, single files, and whether it may write."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.base import ExitReason, FileMount, InvalidSpecError, Preopen, ProviderError
from providers.wasmtime import rootfs

from .conftest import Node, guest
from .test_run import complete
from .test_spec import spec_with


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than the node's."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        assert Path(directory).stat().st_dev != tmp_path.stat().st_dev
        yield Path(directory)


def preopens(*guests: str) -> tuple[Preopen, ...]:
    return tuple(Preopen(Path("/host"), place) for place in guests)


def mounts(*guests: str) -> tuple[FileMount, ...]:
    return tuple(FileMount(Path("/host/file"), place) for place in guests)


@pytest.mark.parametrize(
    ("directories", "files"),
    [
        (("/data", "/data/inner", "/other/"), ("/etc/config", "/etc/other")),
        (("/a",), ("/ab", "/b/a")),
        ((), ("/etc/a", "/etc/b/c", "//etc/d")),
    ],
)
def test_places_that_can_be(directories: tuple[str, ...], files: tuple[str, ...]) -> None:
    rootfs.check(spec_with(preopens=preopens(*directories), files=mounts(*files), stop_file=True))


@pytest.mark.parametrize(
    ("directories", "files", "message"),
    [
        (("data",), (), "preopens[0]: 'data' is not an absolute path"),
        (("/",), (), "preopens[0]: '/' is no place in the root directory"),
        (("/a/../b",), (), "preopens[0]: '/a/../b' is no place in the root directory"),
        (("/a", "/b", "//a/"), (), "preopens[2]: /a is taken by preopens[0]"),
        (("/.vkubelet",), (), "preopens[0]: /.vkubelet is taken by stop_file"),
        ((), ("etc",), "files[0]: 'etc' is not an absolute path"),
        ((), ("/..",), "files[0]: '/..' is no place in the root directory"),
        ((), ("/a", "/b", "/a/"), "files[2]: /a is taken by files[0]"),
        ((), ("/a", "/a/b"), "files[1]: /a/b lies in files[0], a file at /a"),
        ((), ("/a/b/c", "/a"), "files[0]: /a/b/c lies in files[1], a file at /a"),
        (("/a",), ("/a",), "files[0]: /a is taken by preopens[0]"),
        (("/a/b",), ("/a",), "preopens[0]: /a/b lies in files[0], a file at /a"),
        (("/a",), ("/a/b/c",), "files[0]: /a/b/c lies in preopens[0], a directory of its own at /a"),
        (
            (),
            ("/.vkubelet/stop",),
            "files[0]: /.vkubelet/stop lies in stop_file, a directory of its own at /.vkubelet",
        ),
    ],
)
def test_places_that_cannot_be(directories: tuple[str, ...], files: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidSpecError) as raised:
        rootfs.check(spec_with(preopens=preopens(*directories), files=mounts(*files), stop_file=True))
    assert str(raised.value) == message


async def test_mount_points_can_be_seen(node: Node, tmp_path: Path) -> None:
    for name in ("outer", "inner", "deep"):
        (tmp_path / name).mkdir()
    places = (
        Preopen(tmp_path / "outer", "/data"),
        Preopen(tmp_path / "inner", "/data/inner"),
        Preopen(tmp_path / "deep", "/one/two"),
    )
    ended, lines = await node.run(guest("files"), "list", "/", "list", "/one", preopens=places)
    assert ended.code == 0
    assert {"stdout F / has data", "stdout F / has one", "stdout F /one has two"} <= set(lines)
    assert list((tmp_path / "outer").iterdir()) == []  # a volume is not ours to write to


async def test_a_root_directory_that_cannot_be_written(node: Node, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "file").write_text("content")
    told = ["read", "/etc/file", "write", "/own", "x", "write", "/etc/file", "x"]
    told += ["write", "/data/new", "text", "read", "/data/new"]
    more = {
        "read_only_root": True,
        "preopens": (Preopen(tmp_path / "volume", "/data"),),
        "files": (FileMount(tmp_path / "file", "/etc/file"),),
    }
    ended, lines = await node.run(guest("files"), *told, **more)
    assert ended.code == 2
    assert lines == [
        "stdout F /etc/file: content",
        "stdout F write /own: Operation not permitted",
        "stdout F write /etc/file: Operation not permitted",
        "stdout F /data/new: text",
    ]
    assert (tmp_path / "file").read_text() == "content"


async def test_a_file_that_can_be_written_is_the_hosts(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to("file")
    files = (FileMount(tmp_path / "link", "/deep/in/it"),)
    ended, lines = await node.run(
        guest("files"), "read", "/deep/in/it", "write", "/deep/in/it", "changed", files=files
    )
    assert (ended.code, lines) == (0, ["stdout F /deep/in/it: content"])
    assert (tmp_path / "file").read_text() == "changed"


async def test_a_file_of_another_file_system_is_a_copy(node: Node, elsewhere: Path) -> None:
    file = elsewhere / "file"
    file.write_text("content")
    file.chmod(0o640)
    files = (FileMount(file, "/file"),)
    ended, lines = await node.run(guest("files"), "write", "/file", "changed", "read", "/file", files=files)
    assert (ended.code, lines) == (0, ["stdout F /file: changed"])
    assert file.read_text() == "content"
    (identifier,) = node.provider._containers
    copy = (node.provider.root(identifier) / "file").stat()
    assert (copy.st_mode, copy.st_uid) == (file.stat().st_mode, file.stat().st_uid)


async def test_a_read_only_file_cannot_be_written(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    files = (FileMount(tmp_path / "file", "/etc/file", read_only=True),)
    ended, lines = await node.run(
        guest("files"),
        "write",
        "/etc/file",
        "x",
        "read",
        "/etc/file",
        "write",
        "/etc/other",
        "x",
        files=files,
    )
    assert ended.code == 1
    assert lines == ["stdout F write /etc/file: Permission denied", "stdout F /etc/file: content"]
    assert (tmp_path / "file").read_text() == "content"


async def test_an_instance_sees_the_files_and_makes_none(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    files = (FileMount(tmp_path / "file", "/etc/file", read_only=True),)
    state = await node.start(guest("nap"), files=files)
    root = node.provider.root(state.id)
    told = ("read", "/etc/file", "write", "/etc/file", "x")
    ended, output, _ = await complete(node, "files", *told, root=root, files=files)
    assert (ended.code, output.splitlines()[0]) == (1, b"/etc/file: content")
    ended, _, _ = await complete(node, "files", "write", "/x", "x", root=root, read_only_root=True)
    assert ended.code == 1


async def test_what_is_no_file(node: Node, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, message in (
        ("missing", r"files\[0\]: .*/missing: No such file or directory"),
        ("", r"files\[0\]: .* is no regular file: a guest can be given no other"),
        ("fifo", r"files\[0\]: .*/fifo is no regular file: a guest can be given no other"),
    ):
        spec = await node.spec(guest("hello"), files=(FileMount(tmp_path / name, "/file"),))
        with pytest.raises(InvalidSpecError, match=message):
            await node.provider.start(spec)
        assert not node.container(spec.id).exists()


async def test_a_start_that_fails_leaves_nothing(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rootfs.shutil, "copyfileobj", full)
    spec = await node.spec(guest("hello"), files=(FileMount(tmp_path / "file", "/file", read_only=True),))
    with pytest.raises(ProviderError, match="for /file: No space left on device"):
        await node.provider.start(spec)
    assert list((node.run_dir / "containers").iterdir()) == []
    monkeypatch.undo()
    ended, _ = await node.run(guest("hello"))
    assert ended.reason is ExitReason.COMPLETED


async def test_the_root_directory_can_be_read_until_it_is_removed(node: Node) -> None:
    state = await node.start(guest("files"), "write", "/message", "text")
    await node.next_end()
    await node.vanish()
    await node.open()
    assert (node.provider.root(state.id) / "message").read_text() == "text"
    await node.provider.remove(state.id)
    assert not node.provider.root(state.id).exists()
