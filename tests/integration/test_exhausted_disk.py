"""The disks of a node are full, have no inode left or become read-only while its pods run.

What runs goes on and what ends is known; what cannot start says why, and starts by itself afterwards; an
agent that is killed meanwhile is followed by one that carries on.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from crash_scene import PROBED, CrashScene, Expected, Json
from namespaces import Namespace
from small_disk import SmallDisk, small_disk
from waiting import eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk"),
]


class Scene(CrashScene):
    """One whose disks are not that of its agent's log."""

    @property
    def log(self) -> Path:
        return Path(f"{self.directory}.log")


@dataclass
class Node:
    """A node with a disk for images and volumes, and another one for everything else."""

    scene: Scene
    root: SmallDisk
    other: SmallDisk

    @property
    def told(self) -> Path:
        """A directory that is on neither, where pods look for what they wait for."""
        return Path(f"{self.scene.directory}.told")

    def create(self, name: str, expected: Expected, *verbs: str, **more: Any) -> Json:
        mount = {"name": "told", "mountPath": "/told"}
        container = {**more.pop("container", {}), "volumeMounts": [mount]}
        volume = {"name": "told", "hostPath": {"path": str(self.told)}}
        return self.scene.create(name, expected, *verbs, container=container, volumes=[volume], **more)

    def tell(self, word: str) -> None:
        (self.told / word).touch()

    def exhaust(self, what: str) -> None:
        """Run out of it. No disk can become read-only on which logs are written."""
        if what == "writing":
            self.root.lock()
            return
        for disk in (self.root, self.other):
            disk.fill_bytes() if what == "bytes" else disk.fill_inodes()

    def recover(self) -> None:
        for disk in (self.root, self.other):
            disk.free()

    def events(self, name: str, reason: str) -> list[str]:
        """The messages of the events about a pod or the node."""
        selector = f"--field-selector=involvedObject.name={name},reason={reason}"
        found = self.scene.cluster.kubectl("get", "events", "--all-namespaces", selector, "--output=json")
        return [item["message"] for item in json.loads(found)["items"]]

    def ready(self) -> str:
        command = ("get", "node", self.scene.name, "--output=json")
        conditions = json.loads(self.scene.cluster.kubectl(*command))["status"]["conditions"]
        return str(next(item["status"] for item in conditions if item["type"] == "Ready"))

    def renewed(self) -> str:
        path = "--output=jsonpath={.spec.renewTime}"
        lease = ("get", "lease", self.scene.name, "--namespace=kube-node-lease", path)
        return str(self.scene.cluster.kubectl(*lease))

    def container(self, pod: str) -> Json:
        """What is told of a pod's only one."""
        status: Json = self.scene.space.status(pod)["containerStatuses"][0]
        return status

    def log(self, pod: str) -> str:
        directory = self.scene.directory / "pod-logs"
        return "".join(path.read_text() for path in directory.glob(f"*_{pod}_*/main/*.log"))


@pytest.fixture(scope="module")
def node(cluster: Any, actor: str) -> Iterator[Node]:
    name = f"disk-{uuid.uuid4().hex[:6]}"
    with contextlib.ExitStack() as ends:
        short = ends.enter_context(tempfile.TemporaryDirectory(prefix="v-"))
        scene = Scene(cluster, Path(short) / name, Namespace(cluster, name), actor)
        scene.options = ("--node-lease-duration-seconds=8",)
        other = ends.enter_context(small_disk(scene.directory, "16m", 3000))
        root = ends.enter_context(small_disk(scene.directory / "root", "32m", 3000))
        made = Node(scene, root, other)
        made.told.mkdir()
        ends.enter_context(scene.running())
        scene.apply(made.create("good", Expected(), "sleep", "9999", container=PROBED))
        yield made


@pytest.mark.parametrize(
    ("what", "cause"),
    [
        ("bytes", "no space left on device"),
        ("inodes", "no space left on device"),
        ("writing", "read-only file system"),
    ],
)
def test_everything_that_can_goes_on(node: Node, what: str, cause: str) -> None:
    scene = node.scene
    said = len(scene.log.read_text())
    waits = ("await", f"/told/{what}")
    talks = (*waits, "lines", "2000", "await", f"/told/{what}-over", "print", "all is well")
    scene.apply(
        node.create(f"ends-{what}", Expected(ends=3), *waits, "exit", "3", restartPolicy="Never"),
        node.create(f"talks-{what}", Expected(), *talks, "sleep", "9999"),
        node.create(f"deleted-{what}", Expected(), "sleep", "9999"),
    )
    for name in ("good", f"ends-{what}", f"talks-{what}", f"deleted-{what}"):
        scene.space.wait(f"pod/{name}", "condition=Ready")
    before = node.container("good")
    renewed = node.renewed()
    node.exhaust(what)

    scene.apply(node.create(f"new-{what}", Expected(), "sleep", "9999"))
    plain, placed = f"plain-{what}", {"nodeName": scene.name, "automountServiceAccountToken": False}
    scene.space.pod(plain, scene.image, "sleep", "9999", **placed)
    eventually(
        lambda: cause in "".join(node.events(f"new-{what}", "FailedMount")).lower(), "why it cannot start"
    )
    eventually(
        lambda: cause in node.container(plain)["state"].get("waiting", {}).get("message", "").lower(),
        lambda: f"why it cannot start: {scene.space.status(plain)}",
    )
    node.tell(what)
    eventually(
        lambda: node.container(f"ends-{what}")["state"].get("terminated", {}).get("exitCode") == 3,
        lambda: f"its end is known: {node.container(f'ends-{what}')}",
    )
    if what == "bytes":
        eventually(lambda: node.renewed() != renewed, "the node's lease is renewed")
    assert node.container("good") == before
    assert node.ready() == "True"
    scene.delete(f"deleted-{what}")
    if what != "writing":
        scene.space.kubectl("wait", "--for=delete", f"pod/deleted-{what}", "--timeout=30s")
        node.exhaust(what)

    scene.kill()
    scene.spawn()
    restarted = len(scene.log.read_text())
    eventually(lambda: "is ready" in scene.log.read_text()[restarted:], lambda: scene.log.read_text()[said:])
    eventually(lambda: node.events(scene.name, "DiskExhausted"), "who looks after the node is told")
    assert node.container("good") == before
    node.recover()
    node.tell(f"{what}-over")
    scene.space.wait(f"pod/{plain}", "condition=Ready")
    scene.space.kubectl("delete", "pod", plain)
    scene.settle()
    assert node.container("good") == before
    eventually(lambda: node.log(f"talks-{what}").endswith(" all is well\n"), "what it said after it")
    lost = "bytes of this log were lost: No space left on device" in node.log(f"talks-{what}")
    assert lost == (what == "bytes")
    eventually(lambda: node.events(scene.name, "DiskRecovered"), "that it is over is told, too")
    text = scene.log.read_text()[said:]
    assert "Traceback" not in text, text
