"""`vkubelet pull`, `images` and `images prune` beside a real node, and images that its disk has changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guests import build_guest
from namespaces import Namespace

from oci import digests
from oci.push import push_module

pytestmark = pytest.mark.integration

Command = Callable[..., str]


@pytest.fixture
def vkubelet(cluster: Any, node: Any, tmp_path: Path) -> Command:
    """Runs a command on the node's store."""

    def run(*arguments: str) -> str:
        where = [f"--root-dir={node.directory / 'root'}"]
        done = subprocess.run(
            [sys.executable, "-m", "vkubelet.cli", *arguments, *where],
            capture_output=True,
            text=True,
            timeout=120,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def push(cluster: Any, tmp_path: Path) -> Callable[[str], tuple[str, str]]:
    """Pushes a module of its own as an image; its reference, and the module's digest."""

    def pushed(name: str) -> tuple[str, str]:
        module = tmp_path / f"{name}.wasm"
        section = bytes([0, len(name) + 1, len(name)]) + name.encode()
        module.write_bytes(build_guest("actor").read_bytes() + section)
        image = f"{cluster.registry}/kept/{name}:v1"
        push_module(module, image, insecure=True)
        return image, digests.of(module.read_bytes())

    return pushed


def entries(vkubelet: Command) -> dict[str, dict[str, Any]]:
    return {image["names"][-1]: image for image in json.loads(vkubelet("images", "--json"))}


def test_an_image_that_was_pulled_before_starts_with_no_registry(
    cluster: Any, space: Namespace, node: Any, vkubelet: Command, push: Callable[[str], tuple[str, str]]
) -> None:
    used, _ = push("used")
    unused, module = push("unused")
    on = {"nodeName": node.name, "restartPolicy": "Never"}
    never = {"imagePullPolicy": "Never"}
    space.pod("before", used, "sleep", "600", container=never, **on)
    space.wait_reason("before", "ErrImageNeverPull")
    output = vkubelet("pull", f"--insecure-registries={cluster.registry}", used, unused)
    assert {line.partition("@")[0] for line in output.split()} == {used[:-3], unused[:-3]}
    # The agent that runs notices, and pods that failed without the image start.
    space.pod("app", used, "sleep", "600", container=never, **on)
    space.wait("pod/app", "condition=Ready")
    space.wait("pod/before", "condition=Ready")
    assert "already present on machine" in space.wait_event("app", "Pulled")
    found = entries(vkubelet)
    assert (found[used]["inUse"], found[unused]["inUse"]) == (True, False)
    compiled = node.directory / "root" / "compiled"
    assert list(compiled.glob(f"{module[7:]}-*.cwasm"))
    assert f"removed {unused}" in vkubelet("images", "prune")
    found = entries(vkubelet)
    assert used in found
    assert unused not in found
    assert not list(compiled.glob(f"{module[7:]}-*.cwasm"))
    space.pod("again", used, "exit", "0", container=never, **on)
    space.wait("pod/again", "jsonpath={.status.phase}=Succeeded")


def test_a_module_that_the_disk_has_changed_is_pulled_anew(
    space: Namespace, node: Any, push: Callable[[str], tuple[str, str]]
) -> None:
    image, digest = push("changed")
    on = {"nodeName": node.name, "restartPolicy": "Never"}
    space.pod("first", image, "exit", "0", **on)
    space.wait("pod/first", "jsonpath={.status.phase}=Succeeded")
    root = node.directory / "root"
    module = root / "images" / "blobs" / "sha256" / digest[7:]
    whole = module.read_bytes()
    module.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    space.pod("compiled", image, "exit", "0", **on)  # what was compiled of it is still right
    space.wait("pod/compiled", "jsonpath={.status.phase}=Succeeded")
    for path in (root / "compiled").glob(f"{digest[7:]}-*"):
        path.unlink()
    space.pod("second", image, "exit", "0", **on)
    space.wait_reason("second", "CreateContainerError")
    space.wait("pod/second", "jsonpath={.status.phase}=Succeeded")
    assert module.read_bytes() == whole
    assert (root / "images" / "corrupt" / module.name).read_bytes() != whole
