"""What a command names: a file of the container, its own module, an applet; and nothing outside of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from providers.base import Artifact, ContainerSpec, ModuleKind
from vkubelet.pods.command import (
    MAGIC,
    Applet,
    Files,
    ModuleFile,
    OwnModule,
    applet,
    candidates,
    own_names,
    resolve,
    resolve_at_once,
)
from vkubelet.pods.interaction import CommandError

APPLETS = frozenset({"sh", "ls", "tar"})


def spec(*args: str, **env: str) -> ContainerSpec:
    code = Artifact(Path("/compiled"), ModuleKind.MODULE)
    return ContainerSpec("0" * 64, {}, code, args, tuple(env.items()), None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def private(tmp_path: Path) -> Path:
    made = tmp_path / "private"
    made.mkdir()
    return made


def find(
    root: Path, private: Path, *command: str, search: str = "", cwd: str = "/"
) -> OwnModule | Applet | ModuleFile:
    started = spec("/app/server", PATH=search, PWD=cwd)
    own = own_names(started, "registry/team/web@sha256:1")
    return resolve(command, started, Files(root, {}), own, APPLETS, private)


@pytest.mark.parametrize(
    ("name", "cwd", "search", "expected"),
    [
        ("/bin/x", "/w", "/a:/b", ("/bin/x",)),
        ("./x", "/w", "/a", ("/w/./x",)),
        ("sub/x", "/w", "/a", ("/w/sub/x",)),
        ("x", "/w", "/a:/b", ("/a/x", "/b/x")),
        ("x", "/w", "", ()),
        ("x", "/w", "relative::/b", ("/b/x",)),
    ],
)
def test_where_a_command_may_be(name: str, cwd: str, search: str, expected: tuple[str, ...]) -> None:
    assert candidates(name, cwd, search) == expected


def test_a_container_is_called_by_its_argument_and_its_image() -> None:
    names = own_names(spec("/app/server", "-v"), "registry:5000/team/web@sha256:1")
    assert names >= {"/app/server", "server", "web", "web.wasm", "server.wasm"}
    assert own_names(spec(), "") == frozenset()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sh", Applet("sh")),
        ("/bin/sh", Applet("sh")),
        ("/usr/bin/tar", Applet("tar")),
        ("//bin/../bin/ls", Applet("ls")),
        ("/opt/sh", None),
        ("./sh", None),
        ("bash", None),
    ],
)
def test_an_applet_is_called_bare_or_by_a_standard_path(name: str, expected: Applet | None) -> None:
    assert applet(name, APPLETS) == expected


def test_a_file_comes_before_the_own_module_and_that_before_an_applet(root: Path, private: Path) -> None:
    assert find(root, private, "sh", search="/bin") == Applet("sh")
    assert find(root, private, "web") == OwnModule()
    (root / "bin").mkdir()
    (root / "bin" / "sh").write_bytes(MAGIC + b"one")
    found = find(root, private, "sh", "-c", "true", search="/bin")
    assert isinstance(found, ModuleFile)
    assert found.path.read_bytes() == MAGIC + b"one"
    assert found.path.parent == private


def test_a_relative_path_begins_at_the_working_directory(root: Path, private: Path) -> None:
    (root / "work").mkdir()
    (root / "work" / "tool.wasm").write_bytes(MAGIC)
    assert isinstance(find(root, private, "./tool.wasm", cwd="/work"), ModuleFile)
    with pytest.raises(CommandError, match=r"stat \./tool.wasm: no such file or directory"):
        find(root, private, "./tool.wasm", cwd="/")


def test_what_takes_no_time_is_told_at_once(root: Path, tmp_path: Path) -> None:
    """And what may take any is left to those who can wait: a file, a volume, or what cannot be looked at."""
    started = spec("/app/server", PATH="/bin:/data")
    own = own_names(started, "registry/team/web@sha256:1")
    alone, mounted = Files(root, {}), Files(root, {"/data": tmp_path})

    def at_once(name: str, files: Files) -> OwnModule | Applet | None:
        return resolve_at_once([name, "x"], started, files, own, APPLETS)

    assert at_once("sh", alone) == Applet("sh")
    assert at_once("/bin/ls", mounted) == Applet("ls")
    assert at_once("server", alone) == OwnModule()
    assert at_once("unknown", alone) is None
    assert at_once("sh", mounted) is None
    assert at_once("sh", Files(tmp_path / "nowhere", {})) is None
    assert at_once("a\0b", alone) is None
    (root / "data").mkdir()
    (root / "data" / "sh").symlink_to("sh")
    assert at_once("sh", alone) is None  # a loop
    (root / "data" / "sh").unlink()
    (root / "data" / "sh").symlink_to("/nowhere")
    assert at_once("sh", alone) == Applet("sh")
    os.mkfifo(root / "data" / "ls")
    assert at_once("ls", alone) is None


def test_a_mount_is_looked_into(root: Path, private: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "volume"
    (mounted / "deep").mkdir(parents=True)
    (mounted / "deep" / "tool").write_bytes(MAGIC)
    files = Files(root, {"/data": mounted, "/data/deep/er": tmp_path})
    found = resolve(["/data/deep/tool"], spec(), files, (), (), private)
    assert isinstance(found, ModuleFile)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"#!/bin/sh\n", "exec format error: it is not WebAssembly"),
        (b"", "exec format error: it is not WebAssembly"),
        (None, "permission denied: it is no regular file"),
    ],
)
def test_what_is_no_module_is_refused(root: Path, private: Path, content: bytes | None, reason: str) -> None:
    if content is None:
        os.mkfifo(root / "x")
    else:
        (root / "x").write_bytes(content)
    with pytest.raises(CommandError) as refused:
        find(root, private, "/x")
    assert str(refused.value) == f'exec failed: unable to start container process: exec: "/x": {reason}'
    assert list(private.iterdir()) == []


def test_a_module_past_the_limit_is_refused_and_its_copy_removed(
    root: Path, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vkubelet.pods.command.MODULE_MAX", 1 << 20)
    (root / "x").write_bytes(MAGIC + bytes(2 << 20))
    with pytest.raises(CommandError, match="file too large: a module has at most 1 MiB"):
        find(root, private, "/x")
    assert list(private.iterdir()) == []


def test_no_link_leads_out_of_the_container(root: Path, private: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(MAGIC + b"secret")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "relative").symlink_to("../secret")
    (root / "up").symlink_to("..")
    for name in ("/absolute", "/relative", "/../secret", "/up/secret", "/proc/self/root/etc"):
        with pytest.raises(CommandError, match="no such file or directory"):
            find(root, private, name)
    (root / "loop").symlink_to("loop")
    with pytest.raises(CommandError, match="too many levels of symbolic links"):
        find(root, private, "/loop")


def test_a_link_inside_is_followed(root: Path, private: Path) -> None:
    (root / "real").write_bytes(MAGIC)
    (root / "link").symlink_to("/real")
    assert isinstance(find(root, private, "/link"), ModuleFile)


def test_any_text_may_be_a_command(root: Path, private: Path) -> None:
    with pytest.raises(CommandError, match="invalid argument"):
        find(root, private, "/a\0b")
    with pytest.raises(CommandError, match="executable file not found"):
        find(root, private, "", search="")
    with pytest.raises(CommandError, match="file name too long"):
        find(root, private, "/" + "x" * 5000)
