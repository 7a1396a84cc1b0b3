"""A node whose agent is killed again and again, what its pods are expected to be, and what it may have left.

It exists so that every crash is followed by the same questions: is each container there once, does its pod's
status say what has become of it, and is anything left of what is no more.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from found_cgroups import all_cgroups
from namespaces import Namespace, pod_spec
from processes import native
from waiting import eventually

from providers.faultpoints import VARIABLE
from providers.wasmtime import specs
from vkubelet.dev import node as node_process
from vkubelet.dev import process
from vkubelet.pods.volumes import removal

_PROBE = {
    "exec": {"command": ["actor", "exit", "0"]},
    "periodSeconds": 1,
    "failureThreshold": 1,
    "timeoutSeconds": 30,
}
PROBED = {"readinessProbe": _PROBE, "livenessProbe": _PROBE}
"""Of a container of the image that pods of a scene run: the first failure shows."""

Json = dict[str, Any]
SETTLED_SECONDS = 120.0


@dataclass
class Expected:
    """What is to become of a pod: `ends` with its code, `crashes` for ever, or runs with so many restarts.

    Or it is refused with the reason `unless`, and none of it has ever started.
    """

    ends: int | None = None
    unless: str = ""
    crashes: bool = False
    restarts: int = 0


@dataclass
class CrashScene:
    """One node and one namespace; `pods` are those that must be there, `options` more of the agent's."""

    cluster: Any
    directory: Path
    space: Namespace
    image: str
    pods: dict[str, Expected] = field(default_factory=dict)
    agent: subprocess.Popen[bytes] | None = None
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The node's."""
        return self.directory.name

    @property
    def log(self) -> Path:
        return self.directory / "vkubelet.log"

    @property
    def _points(self) -> Path:
        return Path(f"{self.directory}.points")

    @property
    def run_dir(self) -> Path:
        return self.directory / "run"

    @property
    def containers(self) -> Path:
        return self.run_dir / "wasmtime" / "containers"

    def arm(self, point: str, passage: int) -> None:
        """From now on the agent dies at this passage of the point."""
        fresh = self._points.with_suffix(".new")
        fresh.write_text(f"{point} {passage}")
        fresh.replace(self._points)

    def disarm(self) -> None:
        self._points.write_text("")

    def spawn(self) -> None:
        """Start an agent; it may be about to die."""
        options = node_process.options(self.directory, self.cluster.ready, self.name)
        # So that the API server lets pods be resized.
        options.append("--node-labels=kubernetes.io/os=linux")
        command = [sys.executable, "-m", "vkubelet.cli", "run", *options, *self.options]
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(VARIABLE, str(self._points))
            self.agent = process.spawn(command, self.log)

    def wait_dead(self, seconds: float = 40.0) -> None:
        """The agent was told to die, by a point or a signal: return when it has, by SIGKILL."""
        agent = self._running()
        eventually(lambda: agent.poll() is not None, f"the agent's death; its log is {self.log}", seconds)
        assert agent.returncode == -signal.SIGKILL, f"the agent ended by itself: {process.tail(self.log)}"
        self.disarm()

    def kill(self) -> None:
        self._running().kill()
        self.wait_dead()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.agent is not None
        return self.agent

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Have the namespace and the node; at the end nothing is in the way of removing its directory."""
        self.cluster.kubectl("create", "namespace", self.space.name)
        self.space.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
        self.disarm()
        self.spawn()
        try:
            yield
        finally:
            self.disarm()
            if self._running().poll() is not None:
                self.spawn()
            # It ends its pods.
            node_process.wait_ready(self._running().pid, self.name, self.cluster.kubeconfig, self.log)
            self._running().terminate()
            self._running().wait(node_process.DRAIN_TIMEOUT)
            removal.remove(self.run_dir / "volumes")
            self.cluster.kubectl("delete", "node", self.name, "--ignore-not-found")
            self.cluster.kubectl("delete", "namespace", self.space.name, "--wait=false")

    def create(self, name: str, expected: Expected, *verbs: str, **more: Any) -> Json:
        """A pod's document: it notes each start in a volume before it does what `verbs` say."""
        self.pods[name] = expected
        container = more.pop("container", {})
        mounts = [{"name": "data", "mountPath": "/data"}, {"name": "shown", "mountPath": "/shown"}]
        container["volumeMounts"] = [*mounts, *container.get("volumeMounts", ())]
        volumes = [
            {"name": "data", "emptyDir": {}},
            {"name": "shown", "configMap": {"name": "kube-root-ca.crt"}},
            *more.pop("volumes", ()),
        ]
        spec = pod_spec(
            more.pop("image", self.image),
            *("append", "/data/starts=x", "print", "started", "write", "/own=x", *verbs),
            container=container,
            volumes=volumes,
            nodeName=self.name,
            **more,
        )
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

    def apply(self, *pods: Json) -> None:
        self.space.kubectl("create", "--filename", "-", input=yaml.safe_dump_all(pods))

    def delete(self, *names: str, force: bool = False) -> None:
        for name in names:
            del self.pods[name]
        flags = ["--grace-period=0", "--force"] if force else []
        if names:
            self.space.kubectl("delete", "pod", *names, "--wait=false", *flags)

    def uid(self, pod: str) -> str:
        return str(self.space.get(f"pod/{pod}")["metadata"]["uid"])

    def container(self, pod: str) -> str:
        """The id of a pod's only container."""
        return str(self.space.status(pod)["containerStatuses"][0]["containerID"].partition("://")[2])

    def pid(self, pod: str) -> int:
        """The process of a pod's only container."""
        return int((self.containers / self.container(pod) / "started").read_bytes().split(b"\0")[0])

    def settle(self) -> None:
        """Return when everything is as it must be; else fail with what is not."""
        wrong: list[str] = []

        def right() -> bool:
            wrong[:] = self.wrong()
            return not wrong

        eventually(right, lambda: f"{wrong}; the agent's log: {process.tail(self.log, 40)}", SETTLED_SECONDS)

    def wrong(self) -> list[str]:
        """What is not as it must be."""
        found = {item["metadata"]["name"]: item for item in self.space.get("pods")["items"]}
        wrong = [f"{name} is there" for name in found.keys() - self.pods.keys()]
        for name, expected in self.pods.items():
            if name not in found:
                wrong.append(f"{name} is not there")
            elif text := self._wrong_pod(found[name], expected):
                wrong.append(f"{name}: {text}: {json.dumps(found[name]['status'])}")
        return wrong or self._leaks(list(found.values()))

    def _wrong_pod(self, pod: Json, expected: Expected) -> str:
        statuses = pod["status"].get("containerStatuses")
        if expected.unless and pod["status"].get("reason") == expected.unless:
            return "" if not statuses and not self.starts(pod) else "it was refused, and started"
        if not statuses:
            return "has no status"
        status = statuses[0]
        state, restarts = status["state"], status["restartCount"]
        starts = len(self.starts(pod))
        if expected.ends is not None:
            code = state.get("terminated", {}).get("exitCode")
            ended = code == expected.ends and pod["status"]["phase"] == ("Failed" if code else "Succeeded")
            return "" if ended and (starts, restarts) == (1, 0) else f"{starts} starts, it has not ended so"
        if expected.crashes:
            last = status["lastState"].get("terminated", {}).get("exitCode")
            waits = "waiting" in state
            right = waits and last == 1 and restarts >= 1 and starts == restarts + 1
            return "" if right else f"{starts} starts and {restarts} restarts"
        if "running" not in state or not status["ready"] or restarts != expected.restarts:
            return f"does not run, or not with {expected.restarts} restarts"
        if starts != restarts + 1:
            return f"{starts} starts"
        last = status["lastState"].get("terminated", {}).get("exitCode")
        return "" if last == (137 if restarts else None) else f"its last end is {last}"

    def starts(self, pod: Json) -> str:
        """What the pod's guest noted, a character a start."""
        uid = pod["metadata"]["uid"]
        volume = self.directory / "root" / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / "data"
        noted = volume / "starts"
        if not noted.exists():  # a pod that has ended has no volumes any more: its log tells the same
            logs = (self.directory / "pod-logs").glob(f"*_{uid}/main/*.log")
            return "x" * sum(path.read_text().count(" started\n") for path in logs)
        return str(noted.read_text())

    def _leaks(self, pods: list[Json]) -> list[str]:
        uids = {pod["metadata"]["uid"] for pod in pods}
        running = {
            status["containerID"].partition("://")[2]
            for pod in pods
            for status in pod["status"].get("containerStatuses", ())
            if "running" in status["state"]
        }
        owners: dict[str, str | None] = {}
        kept: dict[str, str] = {}  # by a probe, in the root directory of its container
        for path in self.containers.iterdir():
            with contextlib.suppress(FileNotFoundError):  # it is just being removed
                data = (path / "spec").read_bytes()
                spec = specs.decode(path.name, data)
                if spec.runs is not None and spec.root is not None:
                    kept[path.name] = spec.root.parent.name
                else:
                    owners[path.name] = next((uid for uid in uids if uid.encode() in data), None)
        wrong = [f"instance {name} is left" for name, owner in kept.items() if owner not in running]
        wrong += [f"container {name} is left" for name, owner in owners.items() if owner is None]
        # The latest of a pod, and the one before.
        counts = Counter(owners.values())
        wrong += [f"{count} containers of {owner} are left" for owner, count in counts.items() if count > 2]
        wrong += [f"container {name} is not there" for name in running - owners.keys()]
        alive = len(native(self.directory))
        if alive != len(running) + len(kept) + 1:
            wrong.append(f"{alive} processes for {len(running)} containers, {len(kept)} kept and a launcher")
        wrong += [f"{path} is left" for path in (self.run_dir / "wasmtime" / "trash").iterdir()]
        return wrong + self._left_directories(uids, running)

    def _left_directories(self, uids: set[str], running: set[str]) -> list[str]:
        run, root = self.run_dir, self.directory / "root"
        places = [run / part for part in ("volumes", "etc", "podinfo", "termination", "allocations")]
        names = [path for place in (*places, root / "pods") if place.is_dir() for path in place.iterdir()]
        wrong = [str(path) for path in names if path.name not in uids]
        logs = (self.directory / "pod-logs").iterdir()
        wrong += [str(path) for path in logs if path.name.rpartition("_")[2] not in uids]
        base = "vkubelet-" + hashlib.sha256(os.fsencode(run / "wasmtime")).hexdigest()[:12]
        for path in (group for group in all_cgroups() if base in group.parts):
            name = path.name
            if re.fullmatch("[0-9a-f]{64}", name) and name not in running:
                wrong.append(f"cgroup {path}")
            if name.startswith("pod") and name.removeprefix("pod") not in uids:
                wrong.append(f"cgroup {path}")
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        own = [mount for mount in mounts if mount.startswith(f"{self.directory}/")]
        wrong += [
            f"mount {each}" for each in own if "/pods/" in each and not any(uid in each for uid in uids)
        ]
        return [f"{each} is left" for each in wrong]


@contextlib.contextmanager
def crash_scene(cluster: Any, image: str, kind: str) -> Iterator[CrashScene]:
    """One that runs. Its directory has a short path, for the sockets in it."""
    name = f"{kind}-{uuid.uuid4().hex[:6]}"
    with tempfile.TemporaryDirectory(prefix="v-") as short:
        scene = CrashScene(cluster, Path(short) / name, Namespace(cluster, name), image)
        with scene.running():
            yield scene
