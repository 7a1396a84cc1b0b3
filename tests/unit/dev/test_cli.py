"""The commands as a person meets them: their errors are one clear line, and nothing runs that should not."""

from __future__ import annotations

import json

import pytest
import wasmtime
import yaml
from click.testing import CliRunner

from vkubelet.dev import cluster, node, samples
from vkubelet.dev.cli import dev
from vkubelet.dev.layout import DevError, default_cache, default_root, deployed


@pytest.fixture
def invoke(tmp_path):
    def run(*arguments: str):
        places = ["--dir", str(tmp_path / "dev"), "--cache-dir", str(tmp_path / "cache")]
        return CliRunner().invoke(dev, [*places, *arguments], prog_name="vkubelet dev")

    return run


@pytest.mark.parametrize("command", [["kubectl", "get", "pods", "--help"], ["sample", "hello"]])
def test_a_command_that_needs_the_cluster_says_how_to_start_it(invoke, command):
    result = invoke(*command)
    assert result.exit_code == 1
    assert "start it with `vkubelet dev up`" in result.output


def test_status_tells_that_nothing_runs_and_fails(invoke):
    result = invoke("status")
    assert result.exit_code == 1
    assert result.output.count("not running") == 3


def test_down_with_nothing_running_is_no_error(invoke):
    result = invoke("down")
    assert result.exit_code == 0
    assert "Nothing runs" in result.output


def test_reset_removes_its_own_directories_and_nothing_else(invoke, tmp_path):
    for name in ("cluster", "node", "mine"):
        (tmp_path / "dev" / name).mkdir(parents=True)
    first = invoke("reset")
    assert first.exit_code == 0
    assert first.output.count("Removed") == 2
    assert "no data" in invoke("reset").output
    assert [file.name for file in (tmp_path / "dev").iterdir()] == ["mine"]


def test_a_ready_file_of_a_cluster_that_is_gone_is_not_believed(tmp_path):
    (tmp_path / "lock").write_text("1")
    (tmp_path / "ready").write_text(json.dumps({"pid": 1}))
    assert cluster.running(tmp_path) is None


def test_a_program_that_cannot_start_is_an_error_with_its_reason(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'devcluster: the reason' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(DevError, match="did not start: the reason"):
        cluster.start(program, tmp_path / "data")


def test_the_node_is_told_where_to_live_and_whom_to_trust(tmp_path):
    ready = cluster.Ready(
        pid=1,
        version="v1",
        apiserver="https://127.0.0.1:6443",
        registry="127.0.0.1:5000",
        kubeconfig=tmp_path / "admin",
        bootstrap_kubeconfig=tmp_path / "bootstrap",
        ca=tmp_path / "ca.crt",
    )
    options = dict(option.split("=", 1) for option in node.options(tmp_path / "node", ready, "name"))
    assert options["--insecure-registries"] == "127.0.0.1:5000"
    assert options["--address"] == "127.0.0.1"
    for name in ("--root-dir", "--run-dir", "--pod-logs-dir", "--kubeconfig"):
        assert options[name].startswith(str(tmp_path / "node"))


@pytest.mark.parametrize("name", samples.NAMES)
def test_samples_run_on_wasm_nodes_from_the_given_registry(name):
    document = yaml.safe_load(samples.manifest(name, "127.0.0.1:1234"))
    spec = document["spec"]
    pod = spec["template"]["spec"] if "template" in spec else spec
    guest = name if name in ("trap", "missing") else "hello"
    assert [container["image"] for container in pod["containers"]] == [f"127.0.0.1:1234/{guest}:v1"]
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "wasm32-wasi"}
    assert {"key": "kubernetes.io/arch", "value": "wasm32-wasi", "operator": "Equal"} in pod["tolerations"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--once"], "Hello from WebAssembly\n"),
        (["--once", "a", "bc d"], "Hello from WebAssembly a bc d\n"),
    ],
)
def test_the_sample_guest_greets_with_its_arguments(tmp_path, arguments, expected):
    engine = wasmtime.Engine()
    linker, store, wasi = wasmtime.Linker(engine), wasmtime.Store(engine), wasmtime.WasiConfig()
    linker.define_wasi()
    wasi.argv = ["hello", *arguments]
    wasi.stdout_file = str(tmp_path / "output")
    store.set_wasi(wasi)
    module = wasmtime.Module(engine, samples.assemble(deployed("samples") / "hello.wat"))
    linker.instantiate(store, module).exports(store)["_start"](store)
    assert (tmp_path / "output").read_text() == expected


def test_text_that_is_no_module_is_an_error_with_its_place(tmp_path):
    bad = tmp_path / "bad.wat"
    bad.write_text("(module (func")
    with pytest.raises(DevError, match=r"bad\.wat"):
        samples.assemble(bad)


def test_places_follow_the_xdg_specification(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert str(default_root()) == "/state/vkubelet/dev"
    assert str(default_cache()) == "/cache/vkubelet"
