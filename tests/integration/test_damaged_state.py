"""Files of a node that are damaged while no agent runs: it says so, and everything else goes on.

Each kind of file that a running node has is damaged in each way; all kinds at once, for the sake of time.
That no kind is forgotten is found out by walking through the directories of a real node.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import compiled_toolbox
import pytest
from crash_scene import CrashScene, Expected, crash_scene

pytestmark = pytest.mark.integration

OF_A_CONTAINER = {
    "run/wasmtime/containers/*/spec": "spec",
    "run/wasmtime/containers/*/started": "started",
    "run/wasmtime/containers/*/exit": "exit",
}
OF_A_POD = ("run/allocations/*", "run/etc/*/*", "run/podinfo/*/*", "run/termination/*/*/*", "root/pod-logs/*")
OF_THE_NODE = (
    "run/agent.lock",
    "run/wasmtime/agent.lock",
    "run/wasmtime/boot-id",
    "run/wasmtime/cgroups",
    "run/wasmtime/launcher.log",
    "root/devices.json",
    "root/image-access/*",
    "root/images/index/*",
    "root/images/uses/*",
    "root/images/blobs/sha256/*",
    "root/compiled/*.json",
    "root/compiled/*.cwasm",
    "root/pki/*",
    "kubeconfig",
)
NO_STATE = (
    "*.sock",
    "run/wasmtime/launcher.lock",
    "run/wasmtime/containers/*/rootfs/*",
    "run/wasmtime/containers/*/kernel/*",
    "run/wasmtime/containers/*/.started",
    "run/wasmtime/containers/*/own/.exit",
    "run/volumes/*",
    "root/pods/*",
    "pod-logs/*",
    "vkubelet.log",
    "root/images/*lock*",
    "root/instance",
)
"""Sockets, what is guests' own, room for records, and what is written again before it is read.

Without its `instance`, a node waits for its own lease to end: see tests/unit/node/test_identity.py.
"""


def truncated(path: Path) -> None:
    if not path.is_symlink():
        os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    if not path.is_symlink():
        os.truncate(path, 0)


def corrupted(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    path.write_bytes(os.urandom(64))


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "corrupted": corrupted,
    "truncated": truncated,
    "empty": emptied,
    "foreign": lambda path: os.chown(path, 4242, 4242, follow_symlinks=False),
    "world-writable": lambda path: path.chmod(0o666),
    "missing": Path.unlink,
    "a-directory": a_directory,
}


@pytest.fixture(scope="module")
def scene(cluster: Any, actor: str) -> Iterator[CrashScene]:
    with crash_scene(cluster, actor, "state") as scene:
        limits = {"resources": {"limits": {"memory": "64Mi"}}}
        scene.apply(
            scene.create("good", Expected(), "sleep", "9999"),
            scene.create("ended", Expected(ends=3), "exit", "3", restartPolicy="Never"),
            scene.create("of-pod", Expected(), "sleep", "9999", container=limits),
        )
        scene.settle()
        assert shown(scene) == ["main"]
        yield scene


def shown(scene: CrashScene) -> list[str]:
    """The containers that a guest is told of: the node writes that for the first who asks."""
    lines = scene.space.kubectl("exec", "of-pod", "--", "ps").splitlines()
    return [line.split()[1] for line in lines[1:]]


def files(scene: CrashScene) -> list[str]:
    """Of a node, relative to its directory."""
    root = scene.directory
    found = [
        Path(where, name) for where, directories, names in os.walk(root) for name in (*directories, *names)
    ]
    return [str(path.relative_to(root)) for path in found if path.is_symlink() or not path.is_dir()]


def matching(scene: CrashScene, kind: str, among: str = "") -> list[Path]:
    return [scene.directory / one for one in files(scene) if fnmatch.fnmatch(one, kind) and among in one]


def test_every_kind_of_file_is_tried(scene: CrashScene) -> None:
    kinds = (*OF_A_CONTAINER, *OF_A_POD, *OF_THE_NODE, *NO_STATE)
    assert [one for one in files(scene) if not any(fnmatch.fnmatch(one, kind) for kind in kinds)] == []
    for kind in (*OF_A_CONTAINER, *OF_A_POD, *OF_THE_NODE):
        assert matching(scene, kind), kind


def containers(scene: CrashScene) -> list[Any]:
    """What is told of those that nothing is done to."""
    return [scene.space.status(name)["containerStatuses"] for name in ("good", "of-pod")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_everything_else_goes_on(scene: CrashScene, damage: str) -> None:
    if damage == "foreign" and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    scene.apply(
        scene.create(f"spec-{damage}", Expected(), "sleep", "9999"),
        scene.create(f"started-{damage}", Expected(), "sleep", "9999"),
        scene.create(f"exit-{damage}", Expected(ends=3), "exit", "3", restartPolicy="Never"),
    )
    scene.settle()
    before = containers(scene)
    scene.kill()
    said = len(scene.log.read_text())
    hurt = [
        path
        for kind, pod in OF_A_CONTAINER.items()
        for path in matching(scene, kind, scene.container(f"{pod}-{damage}"))
    ]
    hurt += [path for kind in OF_A_POD for path in matching(scene, kind, scene.uid("of-pod"))]
    hurt += [path for kind in OF_THE_NODE for path in matching(scene, kind)]
    # The toolbox is compiled code as the guests' is, and takes long to be compiled again.
    hurt = [path for path in hurt if compiled_toolbox.name() not in path.name]
    for path in hurt:
        DAMAGES[damage](path)
    for pod in ("spec", "started"):
        scene.pods[f"{pod}-{damage}"].restarts += 1
    scene.spawn()
    scene.apply(scene.create(f"new-{damage}", Expected(), "sleep", "9999"))
    scene.settle()
    assert containers(scene) == before
    assert shown(scene) == ["main"]
    text = scene.log.read_text()[said:]
    assert "Traceback" not in text, text
    scene.delete(*(f"{pod}-{damage}" for pod in ("spec", "started", "exit", "new")))
    for left in (scene.run_dir / "wasmtime" / "corrupt").iterdir():
        shutil.rmtree(left)
