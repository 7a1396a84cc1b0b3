"""What keeps `vkubelet run` from being a node: one clear line and a non-zero exit code."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vkubelet.dev import node as node_process
from vkubelet.pods.volumes import removal

pytestmark = pytest.mark.integration

UNREACHABLE = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: secret}}]
"""


def run(*flags: str) -> subprocess.Popen[str]:
    """Run the node, which must fail."""
    return subprocess.Popen(
        [sys.executable, "-m", "vkubelet.cli", "run", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(node: subprocess.Popen[str]) -> str:
    """The last line of one that was run."""
    with node:
        try:
            _, errors = node.communicate(timeout=120)
        finally:
            node.kill()
    assert node.returncode == 1, errors
    assert "Traceback" not in errors
    line = errors.splitlines()[-1]
    assert line.startswith("vkubelet: ")
    return line


def last_line(*flags: str) -> str:
    """Run the node, which must fail, and return its last line."""
    return end_of(run(*flags))


def directories(tmp_path: Path) -> list[str]:
    names = ("root", "run", "pod-logs")
    return [f"--{name}-dir={tmp_path / name}" for name in names] + ["--node-name=failing"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no bootstrap_kubeconfig is given"),
        ("", "expected a mapping"),
        ("a: [", "not YAML"),
        ("kind: Config", "current-context is not set"),
        (UNREACHABLE.replace("https://127.0.0.1:1", "nowhere"), "is no URL"),
    ],
)
def test_an_invalid_kubeconfig(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    line = last_line(f"--kubeconfig={path}", *directories(tmp_path))
    assert str(path) in line
    assert words in line


def test_an_image_policy_that_is_not_understood(tmp_path: Path) -> None:
    policy, pods = tmp_path / "policy.json", tmp_path / "pods"
    pods.mkdir()
    policy.write_text('{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/keys"}]}')
    line = last_line(f"--static-pod-path={pods}", f"--image-policy-file={policy}", *directories(tmp_path))
    assert line.startswith(
        f"vkubelet: image policy {policy}: default[0].type: 'signedBy' is not supported here; only "
    )


def test_an_unreachable_api_server(tmp_path: Path) -> None:
    path = tmp_path / "unreachable"
    path.write_text(UNREACHABLE)
    kinds = ("kubeconfig", "bootstrap-kubeconfig")
    # Both at once: each asks for half a minute before it gives up.
    nodes = [run(f"--{kind}={path}", *directories(tmp_path / kind)) for kind in kinds]
    for node in nodes:
        assert end_of(node) == (
            "vkubelet: the API server cannot be reached: "
            "API server https://127.0.0.1:1: cannot connect: Connection refused"
        )


def test_a_port_that_is_taken(cluster: Any, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = last_line(*node_process.options(tmp_path, cluster.ready, "port-taken"), f"--port={port}")
    assert f"127.0.0.1:{port}" in line
    assert not removal.mounts_below(tmp_path), "what was opened before is closed"


def test_a_state_directory_in_use_names_its_agent(cluster: Any, node: Any) -> None:
    line = last_line(*node_process.options(node.directory, cluster.ready, node.name))
    assert f"in use by another agent, process {node.pid}" in line
