"""One option, three sources: flags over environment over file, with errors that name source and field."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from vkubelet.cli import main
from vkubelet.config import HELP, WASM_TAINTS, Config, ConfigError, Taint, load, parse_taint


def test_every_field_has_help() -> None:
    assert set(HELP) == set(Config.__struct_fields__)


def test_flags_win_over_environment_and_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("maxPods: 1\nport: 1\nnodeName: from-file\nnodeLabels: {a: b}\n")
    environment = {"VKUBELET_MAX_PODS": "2", "VKUBELET_PORT": "2", "UNRELATED": "x"}
    config = load({"max_pods": "3", "node_labels": "zone=z1,disk=ssd"}, environment, file)
    assert (config.max_pods, config.port, config.node_name) == (3, 2, "from-file")
    assert config.node_labels == {"zone": "z1", "disk": "ssd"}
    assert config.register_with_taints == WASM_TAINTS


def test_booleans_and_lists_have_a_textual_form() -> None:
    flags = {
        "drain_on_shutdown": "true",
        "insecure_registries": "a:5000, b",
        "cluster_dns": "10.96.0.10,fd00::a",
        "register_with_taints": "wasm:NoSchedule,x=y:NoExecute",
    }
    config = load(flags, {}, None)
    assert config.drain_on_shutdown is True
    assert config.insecure_registries == ("a:5000", "b")
    assert config.cluster_dns == ("10.96.0.10", "fd00::a")
    assert config.register_with_taints == (
        Taint(key="wasm", effect="NoSchedule"),
        Taint(key="x", value="y", effect="NoExecute"),
    )


@pytest.mark.parametrize(
    ("flags", "environment", "text", "named"),
    [
        ({"max_pods": "0"}, {}, "", r"flags: .*maxPods"),
        ({"max_pods": "many"}, {}, "", r"flags: .*maxPods"),
        ({}, {"VKUBELET_PORT": "70000"}, "", r"environment: .*port"),
        ({}, {}, "maxPod: 5", r"config\.yaml: .*maxPod"),
        ({}, {}, "port: [1]", r"config\.yaml: .*port"),
        ({}, {}, "- a list", r"config\.yaml: expected a mapping"),
        ({}, {}, "a: b: c", r"config\.yaml"),
        ({"log_level": "loud"}, {}, "", r"flags: .*logLevel"),
        ({"cluster_dns": "dns.example"}, {}, "", "flags: .*clusterDNS"),
        ({"node_labels": "novalue"}, {}, "", r"node_labels 'novalue'"),
        ({"extended_resources": "widget=1"}, {}, "", "flags: .*extendedResources"),
        ({"extended_resources": "a.kubernetes.io/x=1"}, {}, "", "flags: .*extendedResources"),
        ({"extended_resources": "example.com/x=half"}, {}, "", "flags: .*extendedResources"),
        ({"register_with_taints": "key"}, {}, "", r"taint 'key'"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, flags: dict[str, str], environment: dict[str, str], text: str, named: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=named):
        load(flags, environment, file if text else None)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load({}, {}, tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("text", ["", "a", "a:b", "a=b", "a=b:Never", ":NoSchedule"])
def test_a_bad_taint_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected key"):
        parse_taint(text)


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(main, ["run", "--max-pods", "none"])
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("vkubelet: flags: ")
    assert outcome.stderr.count("\n") == 1


def test_help_names_every_option() -> None:
    outcome = CliRunner().invoke(main, ["run", "--help"])
    assert outcome.exit_code == 0
    for field in Config.__struct_fields__:
        assert f"--{field.replace('_', '-')}" in outcome.stdout


def test_versions_are_shown() -> None:
    outcome = CliRunner().invoke(main, ["version"])
    assert [line.split()[0] for line in outcome.stdout.splitlines()] == ["vkubelet", "wasmtime"]


def test_the_last_of_a_repeated_option_counts_and_lists_add_up() -> None:
    options = {parameter.name: parameter for parameter in main.commands["run"].params}
    assert not options["port"].multiple
    assert options["insecure_registries"].multiple
    assert options["node_labels"].multiple
