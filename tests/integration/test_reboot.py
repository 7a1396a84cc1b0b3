"""The machine boots while pods are on it: all is started again as a kubelet would, with counts and logs.

A boot is simulated: every process of the node is killed, and its run directory is emptied, as a tmpfs is, or
says that it is of another boot.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from crash_scene import CrashScene, Expected, crash_scene
from processes import native

from vkubelet.pods.volumes import removal

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def scene(cluster: Any, actor: str) -> Iterator[CrashScene]:
    with crash_scene(cluster, actor, "boot") as scene:
        yield scene


def boot(scene: CrashScene, *, emptied: bool) -> None:
    scene.kill()
    for pid in native(scene.directory):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if emptied:
        removal.remove(scene.run_dir / "volumes")
        shutil.rmtree(scene.run_dir)
    else:
        (scene.run_dir / "wasmtime" / "boot-id").write_text(str(uuid.uuid4()))


@pytest.mark.parametrize("emptied", [True, False], ids=["tmpfs", "disk"])
def test_what_ran_runs_again(scene: CrashScene, emptied: bool) -> None:
    limits = {"resources": {"limits": {"memory": "64Mi"}}}
    names = [f"{name}-{emptied}".lower() for name in ("runs", "ended", "once", "gone")]
    runs, ended, once, gone = names
    scene.apply(
        scene.create(runs, Expected(), "print", "first", "sleep", "9999", container=limits),
        scene.create(ended, Expected(ends=3), "exit", "3", restartPolicy="Never"),
        scene.create(once, Expected(), "sleep", "9999", restartPolicy="Never"),
        scene.create(gone, Expected(), "sleep", "9999"),
    )
    scene.settle()
    before = scene.space.status(ended)["containerStatuses"]
    boot(scene, emptied=emptied)
    scene.pods[runs].restarts = 1
    scene.pods[once] = Expected(ends=137)
    scene.delete(gone, force=True)
    scene.spawn()
    scene.settle()
    assert scene.space.status(ended)["containerStatuses"] == before
    assert "first" in scene.space.kubectl("logs", runs)
    assert "first" in scene.space.kubectl("logs", "--previous", runs)
    scene.delete(runs, ended, once)
    scene.settle()
