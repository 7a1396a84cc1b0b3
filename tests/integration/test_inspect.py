"""`vkubelet push` and `vkubelet inspect` against the real registry, as a person uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import wasmtime
from guests import build_guest, push_bytes

from oci.manifest import INDEX, MANIFEST

pytestmark = pytest.mark.integration

Run = Callable[..., "subprocess.CompletedProcess[str]"]
HANDLER = '(component (instance $i) (export "wasi:http/incoming-handler@0.2.3" (instance $i)))'


@pytest.fixture
def vkubelet(tmp_path: Path) -> Run:
    """The command, at home in the test's directory."""

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "vkubelet.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        assert done.returncode == code, done.stderr
        return done

    return run


def inspected(vkubelet: Run, image: str, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(vkubelet("inspect", "--insecure", "--json", *options, image).stdout)
    return found


def component(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "component.wasm"
    path.write_bytes(bytes(wasmtime.wat2wasm(text)))
    return path


def test_what_is_pushed_is_told_in_full(cluster: Any, vkubelet: Run) -> None:
    image = f"{cluster.registry}/inspected:v1"
    pushed = vkubelet(
        "push", "--insecure", "--annotation=a=b=c", str(build_guest("actor")), image
    ).stdout.strip()
    found = inspected(vkubelet, image)
    assert pushed == f"{image}@{found['digest']}"
    assert found["format"] == "CNCF wasm artifact"
    assert found["config"]["mediaType"] == "application/vnd.wasm.config.v0+json"
    (layer,) = found["layers"]
    assert layer["digest"] == found["module"]["digest"]
    assert found["module"]["kind"] == "WASI preview 1 command"
    assert "wasi_snapshot_preview1.fd_write" in found["module"]["imports"]
    assert "_start" in found["module"]["exports"]
    assert found["runnable"] is True
    shown = vkubelet("inspect", "--insecure", pushed).stdout
    assert "runs here   yes" in shown
    assert "wasi_snapshot_preview1: " in shown
    url = f"http://{cluster.registry}/v2/inspected/manifests/v1"
    manifest = requests.get(url, headers={"Accept": MANIFEST}, timeout=10).json()
    assert manifest["annotations"] == {"a": "b=c"}


def test_a_file_needs_no_registry(vkubelet: Run, tmp_path: Path) -> None:
    found = inspected(vkubelet, str(component(tmp_path, HANDLER)))
    assert found["module"]["kind"] == "wasi:http component"
    assert found["runnable"] is False
    assert "does not export wasi:cli/run@0.2" in found["problem"]
    (tmp_path / "text.wasm").write_text("no WebAssembly")
    assert (
        "neither a core WebAssembly module nor a component"
        in inspected(vkubelet, str(tmp_path / "text.wasm"))["problem"]
    )


def test_what_is_no_wasm_is_told_too(cluster: Any, vkubelet: Run) -> None:
    push_bytes(cluster.registry, "inspectedtext", b"hello", layer_type="text/plain")
    found = inspected(vkubelet, f"{cluster.registry}/inspectedtext:v1")
    assert [layer["mediaType"] for layer in found["layers"]] == ["text/plain"]
    assert "module" not in found
    assert found["problem"].startswith("the image holds no WebAssembly: ")


def test_an_index_tells_its_platforms(cluster: Any, vkubelet: Run) -> None:
    image = f"{cluster.registry}/inspectedindex"
    pushed = vkubelet("push", "--insecure", str(build_guest("actor")), f"{image}:wasm").stdout.strip()
    digest = pushed.partition("@")[2]
    url = f"http://{cluster.registry}/v2/inspectedindex/manifests"
    manifest = requests.get(f"{url}/{digest}", headers={"Accept": MANIFEST}, timeout=10)
    media_type = manifest.headers["Content-Type"]
    entry = {"mediaType": media_type, "digest": digest, "size": len(manifest.content)}
    for tag, platforms in {
        "v1": [("linux", "amd64"), ("wasip1", "wasm")],
        "v2": [("linux", "amd64")],
    }.items():
        entries = [{**entry, "platform": {"os": system, "architecture": kind}} for system, kind in platforms]
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        requests.put(
            f"{url}/{tag}", data=json.dumps(document), headers={"Content-Type": INDEX}, timeout=10
        ).raise_for_status()
    found = inspected(vkubelet, f"{image}:v1")
    assert found["platforms"] == ["linux/amd64", "wasip1/wasm"]
    assert found["runnable"] is True
    found = inspected(vkubelet, f"{image}:v2")
    assert found["platforms"] == ["linux/amd64"]
    assert "no manifest for wasm" in found["problem"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["inspect", "--insecure", "{registry}/nowhere:v1"], "404"),
        (["inspect", "{registry}/nowhere:v1"], "registry {registry}, repository nowhere, reference v1"),
        (["inspect", "x/UPPER"], "must be lowercase"),
        (["inspect", "./nothing.wasm"], "nothing.wasm: No such file or directory"),
        (["push", "./nothing.wasm", "{registry}/x:v1"], "nothing.wasm: No such file or directory"),
        (["push", "--annotation=x", "pyproject.toml", "{registry}/x:v1"], "is not NAME=VALUE"),
        (["push", "--insecure", "pyproject.toml", "{registry}/x:v1"], "neither a core WebAssembly module"),
        (["push", "--insecure", "pyproject.toml", "{registry}/x@sha256:" + "0" * 64], "a push needs a tag"),
    ],
)
def test_what_fails_is_one_line(cluster: Any, vkubelet: Run, arguments: list[str], text: str) -> None:
    done = vkubelet(*(part.replace("{registry}", cluster.registry) for part in arguments), code=1)
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("vkubelet: ")
    assert text.replace("{registry}", cluster.registry) in line


def test_credentials_are_the_users_own(vkubelet: Run, tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    config = tmp_path / ".docker" / "config.json"
    config.write_text('{"auths": {"r.example": {"auth": "eA=="}}}')
    done = vkubelet("inspect", "r.example/x:v1", code=1)
    assert done.stderr.startswith(f"vkubelet: {config}: auths['r.example'].auth: ")
