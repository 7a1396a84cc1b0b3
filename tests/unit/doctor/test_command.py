"""`vkubelet doctor` on this machine, whatever it is."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from found_cgroups import all_cgroups

from vkubelet.cli import main
from vkubelet.config import Config
from vkubelet.doctor import reading
from vkubelet.startup import make_directories, only_agent


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A node of its own, with static pods and no API server."""
    (tmp_path / "manifests").mkdir()
    return [
        "doctor",
        "--port=0",
        f"--static-pod-path={tmp_path}/manifests",
        *(f"--{name}={tmp_path}/{name}" for name in ("root-dir", "run-dir", "pod-logs-dir")),
    ]


def checks(output: str) -> dict[str, tuple[str, str]]:
    return {each["name"]: (each["status"], each["found"]) for each in json.loads(output)["checks"]}


def test_this_machine(arguments: list[str], tmp_path: Path) -> None:
    told = CliRunner().invoke(main, [*arguments, "--json"])
    found = checks(told.output)
    assert told.exit_code == 0, told.output
    assert json.loads(told.output)["fit"] is True
    assert found["api server"] == ("ok", "none is configured: the node runs its static pods")
    assert found["root dir"] == ("ok", f"{tmp_path}/root-dir can be made")
    assert found["launcher"][0] == "ok"
    assert os.listdir(tmp_path) == ["manifests"]  # noqa: PTH208
    text = CliRunner().invoke(main, arguments)
    assert text.exit_code == 0
    assert all(f" {name} " in text.output for name in found)


def test_a_machine_without_a_kubeconfig_is_unfit(arguments: list[str]) -> None:
    told = CliRunner().invoke(main, [one for one in arguments if "static" not in one])
    assert told.exit_code == 1
    assert "missing  api server    there is no kubeconfig" in told.output


def test_options_are_those_of_run(arguments: list[str]) -> None:
    told = CliRunner().invoke(main, [*arguments, "--max-pods=none"])
    assert told.exit_code == 1
    assert "maxPods" in told.output
    told = CliRunner().invoke(main, [*arguments, "--eviction-hard=nodefs.available<x"])
    assert told.exit_code == 1
    assert "evictionHard" in told.output


def config(tmp_path: Path, **more: object) -> Config:
    paths = {name: str(tmp_path / name) for name in ("root_dir", "run_dir", "pod_logs_dir")}
    return Config(**paths, **more)  # type: ignore[arg-type]


def test_an_agent_that_runs_is_named(tmp_path: Path) -> None:
    made = config(tmp_path, port=0)
    make_directories(made)
    assert reading.read(made).agent == ""
    with only_agent(Path(made.run_dir)):
        assert reading.read(made).agent == str(os.getpid())
    assert reading.read(made).agent == ""


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        made = config(tmp_path, address="127.0.0.1", port=taken.getsockname()[1])
        assert "the port is taken by another process" in reading.read(made).port_taken


def test_a_file_where_a_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "root_dir").write_text("")
    (root, *_) = reading.read(config(tmp_path, port=0)).directories
    assert (root.existing, root.is_directory) == (str(tmp_path / "root_dir"), False)


def test_thresholds_that_are_crossed_are_named(tmp_path: Path) -> None:
    made = config(tmp_path, port=0, eviction_hard={"memory.available": "1000Ti"})
    assert "memory.available (hard)" in reading.read(made).pressure


def test_no_cgroup_is_left(tmp_path: Path) -> None:
    reading.read(config(tmp_path, port=0))
    assert [group for group in all_cgroups() if group.name == f"vkubelet-doctor-{os.getpid()}"] == []
