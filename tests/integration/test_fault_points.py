"""The agent is killed between any two steps of what it does, and the next one carries on as if it had not.

Each point of providers.faultpoints is tried: pods are created, run, end, crash, are killed and deleted, all
at once, and the agent dies on its way. Then another agent starts, and all must be as a user expects it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from crash_scene import CrashScene, Expected, crash_scene
from guests import build_guest, push_bytes
from mock_driver import MockDriver
from told_plugin import Told

from providers.faultpoints import POINTS

pytestmark = pytest.mark.integration

OF_A_START = {"adoption-scanned", "adoption-swept", "orphan-killed", "orphan-removed"}
"""Reached by an agent that takes charge: it is the second one that is killed there."""
ONCE = {
    "image-access-half-written",
    "container-updated",
    "previous-attempt-removed",
    "allocation-half-written",
    "allocation-written",
    *OF_A_START,
    *(point for point in POINTS if point.startswith(("csi-", "devices-", "orphan-"))),
}
"""Passed by one container of a round; all others by several, and the second one is where the agent dies."""
WIDGET = "example.com/widget"


@dataclass
class Rounds:
    """What happens at each point, so that it is passed; each round deletes what the one before has made."""

    scene: CrashScene
    number: int = 0
    to_kill: list[str] = field(default_factory=list)
    to_delete: list[str] = field(default_factory=list)
    plugin: Told | None = None
    driver: MockDriver | None = None

    def act(self, point: str) -> None:
        """Create, kill and delete pods; the agent may be dead before this returns."""
        scene, number = self.scene, self.number
        limits = {"resources": {"limits": {"memory": "64Mi", "cpu": "500m"}}}
        made = [
            scene.create(f"runs-{number}", Expected(), "sleep", "9999", container=limits),
            scene.create(f"killed-{number}", Expected(), "sleep", "9999"),
            scene.create(f"ends-{number}", Expected(ends=3), "exit", "3", restartPolicy="Never"),
            scene.create(f"crashes-{number}", Expected(crashes=True), "exit", "1"),
            *self._special(point),
        ]
        killed, deleted = self.to_kill, self.to_delete
        self.to_kill, self.to_delete = [f"killed-{number}"], [item["metadata"]["name"] for item in made]
        for name in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(scene.pid(name), signal.SIGKILL)
            scene.pods[name].restarts += 1
        self.to_delete = [*(name for name in self.to_delete if name not in self.to_kill), *killed]
        scene.apply(*made)
        scene.delete(*deleted)
        self.number += 1

    def _special(self, point: str) -> list[dict[str, Any]]:
        """What only some points need."""
        number = self.number
        if point == "image-access-half-written":
            # The guest, with a section that no other image has.
            note = f"{number:04}".encode()
            content = build_guest("actor").read_bytes() + b"\0" + bytes([6]) + b"\1n" + note
            push_bytes(self.scene.cluster.registry, "actor", content, f"r{number}")
            image = self.scene.image.rpartition(":")[0] + f":r{number}"
            return [self.scene.create(f"pulls-{number}", Expected(), "sleep", "9999", image=image)]
        if point.startswith("csi-") and self.driver is not None:
            claim = {"name": "csi", "persistentVolumeClaim": {"claimName": f"claim-{number % 2}"}}
            mounts = {"volumeMounts": [{"name": "csi", "mountPath": "/csi"}]}
            more = {"volumes": [claim], "container": mounts}
            return [self.scene.create(f"csi-{number}", Expected(), "sleep", "9999", **more)]
        if point.startswith("devices-"):
            limits = {"resources": {"limits": {WIDGET: "1"}}}
            # As with a kubelet: a pod that comes to another agent before its devices' plugin is refused.
            expected = Expected(unless="UnexpectedAdmissionError")
            return [self.scene.create(f"widget-{number}", expected, "sleep", "9999", container=limits)]
        return []


@pytest.fixture(scope="module")
def scene(cluster: Any, actor: str) -> Iterator[CrashScene]:
    with crash_scene(cluster, actor, "crash") as scene:
        yield scene


@pytest.fixture(scope="module")
def rounds(scene: CrashScene) -> Iterator[Rounds]:
    rounds = Rounds(scene)
    rounds.act("")
    scene.settle()
    yield rounds
    if rounds.plugin is not None:
        rounds.plugin.close()
    assert list((scene.run_dir / "wasmtime" / "corrupt").iterdir()) == []
    if rounds.driver is not None:
        scene.space.kubectl("delete", "pods", "--all", "--grace-period=0", "--timeout=60s")
        rounds.driver.stop()


def ready_for(point: str, rounds: Rounds) -> None:
    """What a point needs besides pods: a plugin of devices, a driver of storage."""
    scene = rounds.scene
    if point.startswith("devices-"):
        if rounds.plugin is not None:
            rounds.plugin.close()
        directory = scene.directory / "root" / "device-plugins"
        rounds.plugin = Told(directory, WIDGET, f"{rounds.number}.sock", {})
        rounds.plugin.tell(a="Healthy", b="Healthy")
    elif point.startswith("csi-") and rounds.driver is None:
        name = f"{scene.name}.mock.example"
        rounds.driver = MockDriver(scene.directory / "root", name, Path(f"{scene.directory}.driver.log"))
        common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        objects: list[dict[str, Any]] = [
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "CSIDriver",
                "metadata": {"name": name},
                "spec": {"attachRequired": False},
            }
        ]
        for number in range(2):
            claim, volume = f"claim-{number}", f"{scene.name}-{number}"
            of_volume = {
                **common,
                "capacity": {"storage": "1Gi"},
                "claimRef": {"namespace": scene.space.name, "name": claim},
                "csi": {"driver": name, "volumeHandle": str(number + 1)},
            }
            of_claim = {**common, "resources": {"requests": {"storage": "1Gi"}}, "volumeName": volume}
            for kind, called, spec in (
                ("PersistentVolume", volume, of_volume),
                ("PersistentVolumeClaim", claim, of_claim),
            ):
                objects.append({"apiVersion": "v1", "kind": kind, "metadata": {"name": called}, "spec": spec})
        scene.space.kubectl("create", "--filename", "-", input=yaml.safe_dump_all(objects))
        rounds.driver.start()


@pytest.mark.parametrize("point", POINTS)
def test_the_next_agent_carries_on(point: str, scene: CrashScene, rounds: Rounds) -> None:
    ready_for(point, rounds)
    if point in OF_A_START:
        if not rounds.to_kill:
            rounds.act(point)
            scene.settle()
        scene.kill()
        scene.arm(point, 1)
        name = f"killed-{rounds.number - 1}"
        rounds.to_kill.remove(name)
        scene.delete(name, force=True)
        scene.spawn()
    else:
        scene.arm(point, 1 if point in ONCE else 2)
        rounds.act(point)
        if point == "container-updated":
            resize(scene, f"runs-{rounds.number - 1}")
    scene.wait_dead()
    scene.spawn()
    scene.settle()


def resize(scene: CrashScene, name: str) -> None:
    """Change the limits of a pod that runs, in place."""
    scene.space.wait(f"pod/{name}", "condition=Ready")
    limits = {"memory": "96Mi", "cpu": "250m"}
    resources = {"requests": limits, "limits": limits}
    patch = {"spec": {"containers": [{"name": "main", "resources": resources}]}}
    scene.space.kubectl("patch", "pod", name, "--subresource=resize", "--patch", json.dumps(patch))
