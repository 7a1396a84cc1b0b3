"""A node's agent and launcher can open no file more, or make no process or thread.

What runs goes on and is known, a probe that cannot be made says nothing of who is probed, and what cannot
start says why, and starts by itself afterwards.
"""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from crash_scene import PROBED, CrashScene, Expected
from exhausted import no_files, no_processes, processes_can_be_bounded
from guests import build_guest, push_bytes
from namespaces import Namespace
from processes import launcher
from waiting import eventually

from vkubelet.dev import node as node_process
from vkubelet.dev import process

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can limit other processes"),
]

Exhausted = Callable[[Iterable[int]], AbstractContextManager[None]]


class Scene(CrashScene):
    """One whose agent dies at no point, which it would have to read a file for."""

    def spawn(self) -> None:
        options = node_process.options(self.directory, self.cluster.ready, self.name)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.agent = process.spawn([sys.executable, "-m", "vkubelet.cli", "run", *options], self.log)


@pytest.fixture(scope="module")
def scene(cluster: Any, actor: str) -> Iterator[Scene]:
    name = f"most-{uuid.uuid4().hex[:6]}"
    with tempfile.TemporaryDirectory(prefix="v-") as short:
        scene = Scene(cluster, Path(short) / name, Namespace(cluster, name), actor)
        with scene.running():
            scene.apply(scene.create("good", Expected(), "sleep", "9999", container=PROBED))
            yield scene


def container(scene: Scene, pod: str) -> dict[str, Any]:
    """What is told of a pod's only one; nothing yet of one that was just created."""
    found: list[dict[str, Any]] = scene.space.status(pod).get("containerStatuses", [{}])
    return found[0]


def wait_message(scene: Scene, pod: str, cause: str) -> None:
    """Return when the pod's container waits, and its status says so for this cause."""

    def told() -> bool:
        return cause in container(scene, pod).get("state", {}).get("waiting", {}).get("message", "")

    eventually(told, lambda: f"why {pod} cannot start: {container(scene, pod)}")


def is_unknown(scene: Scene) -> bool:
    """Whether a probe's event says that nothing is known of who is probed."""
    events = scene.space.get("events")["items"]
    return any("errored and resulted in unknown state" in event["message"] for event in events)


@pytest.mark.parametrize(
    ("what", "exhausted", "cause"),
    [
        ("files", no_files, "Too many open files"),
        pytest.param(
            "processes",
            no_processes,
            "Resource temporarily unavailable",
            marks=pytest.mark.skipif(not processes_can_be_bounded(), reason="no cgroups"),
        ),
    ],
)
def test_everything_that_can_goes_on(scene: Scene, what: str, exhausted: Exhausted, cause: str) -> None:
    told = scene.directory / what
    told.mkdir()
    scene.apply(
        scene.create(
            f"ends-{what}",
            Expected(ends=3),
            *("await", "/told/go", "exit", "3"),
            restartPolicy="Never",
            container={"volumeMounts": [{"name": "told", "mountPath": "/told"}]},
            volumes=[{"name": "told", "hostPath": {"path": str(told)}}],
        ),
        scene.create(f"deleted-{what}", Expected(), "sleep", "9999"),
    )
    for pod in ("good", f"ends-{what}", f"deleted-{what}"):
        scene.space.wait(f"pod/{pod}", "condition=Ready")
    before = container(scene, "good")
    # Another module, which has to be compiled, by a process.
    module = build_guest("actor").read_bytes() + b"\0\2\1" + what[:1].encode()
    push_bytes(scene.cluster.registry, "actor", module, what)
    image = f"{scene.image.rpartition(':')[0]}:{what}"
    assert scene.agent is not None
    with exhausted([scene.agent.pid, launcher(scene.directory)]):
        placed = {"nodeName": scene.name, "automountServiceAccountToken": False}
        scene.space.pod(f"new-{what}", scene.image, "sleep", "9999", **placed)
        scene.space.pod(f"other-{what}", image, "sleep", "9999", **placed)
        for pod in (f"new-{what}", f"other-{what}"):
            wait_message(scene, pod, cause)
        (told / "go").touch()
        scene.delete(f"deleted-{what}")
        eventually(lambda: is_unknown(scene), "that the good one cannot be probed is told")
        assert container(scene, "good") == before
    for pod in (f"new-{what}", f"other-{what}"):
        scene.space.wait(f"pod/{pod}", "condition=Ready")
        assert container(scene, pod)["restartCount"] == 0
    scene.space.kubectl("delete", "pod", f"new-{what}", f"other-{what}")
    scene.settle()
    assert container(scene, "good") == before
    assert "Traceback" not in scene.log.read_text(), scene.log.read_text()
