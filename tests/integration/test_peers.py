"""What other tools make is read here, and they read what is made here: the real oras and crane."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guests import build_guest
from namespaces import Namespace
from peers import build_peer
from tars import archive, member

pytestmark = pytest.mark.integration

Tool = Callable[..., str]


def tool(program: Path, home: Path) -> Tool:
    """Runs the program with a home of its own; what it wrote to standard output."""

    def run(*words: str, directory: Path | None = None) -> str:
        done = subprocess.run(
            [program, *words],
            cwd=directory or home,
            env={**os.environ, "HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def oras(tmp_path: Path) -> Tool:
    return tool(build_peer("oras", "oras.land/oras/cmd/oras"), tmp_path)


@pytest.fixture
def crane(tmp_path: Path) -> Tool:
    return tool(build_peer("crane", "github.com/google/go-containerregistry/cmd/crane"), tmp_path)


@pytest.fixture
def vkubelet(tmp_path: Path) -> Tool:
    return tool(Path(sys.executable).with_name("vkubelet"), tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with the guest `hello` as app.wasm, which oras names relative to it."""
    made = tmp_path / "files"
    made.mkdir()
    (made / "app.wasm").write_bytes(build_guest("hello").read_bytes())
    return made


def says_hello(space: Namespace, name: str, image: str) -> None:
    space.pod(name, image, restartPolicy="Never")
    space.wait(f"pod/{name}", "jsonpath={.status.phase}=Succeeded")
    assert "hello" in space.kubectl("logs", name).lower()


@pytest.mark.parametrize(
    ("name", "options", "media_type", "form"),
    [
        ("plain", [], "application/wasm", "artifact"),
        ("typed", ["--artifact-type=application/vnd.example.app"], "application/wasm", "artifact"),
        (
            "cncf",
            ["--config=config.json:application/vnd.wasm.config.v0+json"],
            "application/wasm",
            "CNCF wasm artifact",
        ),
        (
            "older",
            ["--image-spec=v1.0"],
            "application/vnd.wasm.content.layer.v1+wasm",
            "wasm-to-oci artifact",
        ),
    ],
)
def test_what_oras_pushes(
    name: str,
    options: list[str],
    media_type: str,
    form: str,
    cluster: Any,
    space: Namespace,
    oras: Tool,
    vkubelet: Tool,
    files: Path,
) -> None:
    image = f"{cluster.registry}/peers/oras-{name}:v1"
    (files / "config.json").write_text('{"architecture": "wasm", "os": "wasip1", "layerDigests": []}')
    oras("push", "--plain-http", *options, image, f"app.wasm:{media_type}", directory=files)
    found = json.loads(vkubelet("inspect", "--insecure", "--json", image))
    assert (found["format"], found["runnable"]) == (form, True)
    assert (
        found["digest"]
        == json.loads(oras("manifest", "fetch", "--plain-http", "--descriptor", image))["digest"]
    )
    says_hello(space, name, image)
    # An index of it, without a word on platforms, leaves nothing to choose.
    repository, _, tag = image.rpartition(":")
    oras("manifest", "index", "create", "--plain-http", f"{repository}:index", tag)
    assert json.loads(vkubelet("inspect", "--insecure", "--json", f"{repository}:index"))["runnable"]


def test_what_is_pushed_is_read_by_both(
    cluster: Any, oras: Tool, crane: Tool, vkubelet: Tool, files: Path, tmp_path: Path
) -> None:
    image = f"{cluster.registry}/peers/pushed:v1"
    pushed = vkubelet(
        "push", "--insecure", "--annotation", "team=edge", str(files / "app.wasm"), image
    ).strip()
    manifest = json.loads(oras("manifest", "fetch", "--plain-http", image))
    assert manifest == json.loads(crane("manifest", "--insecure", image))
    assert manifest["annotations"]["team"] == "edge"
    digest = crane("digest", "--insecure", image).strip()
    assert pushed == f"{image}@{digest}"
    crane("validate", "--insecure", "--remote", image)
    oras("pull", "--plain-http", "--output", str(tmp_path / "pulled"), image)
    assert (tmp_path / "pulled" / "app.wasm").read_bytes() == (files / "app.wasm").read_bytes()
    # What was copied by either is what it was.
    crane("copy", "--insecure", image, f"{cluster.registry}/peers/copied:v1")
    assert (
        json.loads(vkubelet("inspect", "--insecure", "--json", f"{cluster.registry}/peers/copied:v1"))[
            "digest"
        ]
        == digest
    )


def test_oras_finds_what_is_attached(cluster: Any, oras: Tool, vkubelet: Tool, files: Path) -> None:
    """By the tag that stands for the referrers API, which this registry has not."""
    image = f"{cluster.registry}/peers/attached:v1"
    bill = files / "bill.spdx.json"
    bill.write_text('{"spdxVersion": "SPDX-2.3"}')
    attach = ["--attach", str(bill), "--attach-type", "application/spdx+json"]
    vkubelet("push", "--insecure", *attach, str(files / "app.wasm"), image)
    oras(
        "attach", "--plain-http", "--artifact-type=text/x-note", image, "app.wasm:text/plain", directory=files
    )
    found = json.loads(oras("discover", "--plain-http", "--format=json", image))
    types = {one["artifactType"]: one["digest"] for one in found["referrers"]}
    assert set(types) == {"application/spdx+json", "text/x-note"}
    repository = image.rpartition(":")[0]
    directory = files / "pulled"
    oras("pull", "--plain-http", "--output", str(directory), f"{repository}@{types['application/spdx+json']}")
    assert (directory / bill.name).read_bytes() == bill.read_bytes()


def layer(path: Path, files: dict[str, bytes]) -> str:
    """A layer as a tar file."""
    path.write_bytes(archive(member(name, content) for name, content in files.items()))
    return str(path)


def test_an_image_from_scratch_that_crane_makes(
    cluster: Any, space: Namespace, crane: Tool, vkubelet: Tool, files: Path
) -> None:
    image = f"{cluster.registry}/peers/scratch:v1"
    app = build_guest("actor").read_bytes()
    first = layer(files / "first.tar", {"app.wasm": app, "data/kept": b"of the image", "data/gone": b""})
    second = layer(files / "second.tar", {"data/.wh.gone": b"", "data/more": b"of the second layer"})
    crane("append", "--insecure", "--new_layer", first, "--new_layer", second, "--new_tag", image)
    words = ["--entrypoint=/app.wasm", "--env=COLOUR=green", "--workdir=/data", "--set-platform=wasi/wasm"]
    crane("mutate", "--insecure", *words, "--tag", image, image)
    found = json.loads(vkubelet("inspect", "--insecure", "--json", image))
    assert found["runnable"], found
    steps = [
        "env",
        "COLOUR",
        "read",
        "/data/kept",
        "read",
        "/data/more",
        "read",
        "/data/gone",
        "write",
        "/data/new=1",
    ]
    space.pod("scratch", image, *steps, "read", "/data/new", restartPolicy="Never")
    space.wait("pod/scratch", "jsonpath={.status.phase}=Succeeded")
    colour, kept, more, gone, new = space.kubectl("logs", "scratch").splitlines()
    assert (colour, kept, more) == (
        "COLOUR=green",
        "/data/kept: of the image",
        "/data/more: of the second layer",
    )
    assert gone.startswith("cannot read /data/gone")
    assert new == "/data/new: 1"
    # An index with others beside it.
    other = f"{cluster.registry}/peers/scratch:amd64"
    crane("mutate", "--insecure", "--set-platform=linux/amd64", "--tag", other, image)
    index = f"{cluster.registry}/peers/scratch:all"
    crane("index", "append", "--insecure", "--manifest", other, "--manifest", image, "--tag", index)
    space.pod("chosen", index, "read", "/data/kept", restartPolicy="Never")
    space.wait("pod/chosen", "jsonpath={.status.phase}=Succeeded")
