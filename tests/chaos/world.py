"""A control plane, a node and pods that count, and how each of them is killed.

It exists so that the killing is one list of methods. What is killed is started again at once, as whoever
supervises it would. It must not know what must be true then.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from guests import push_guest
from namespaces import Namespace, pod_spec
from processes import native

from providers.wasmtime import files, processes
from tests.chaos.checks import Counted
from vkubelet.dev import cluster as control_plane
from vkubelet.dev import kubectl, process
from vkubelet.dev import node as node_process
from vkubelet.dev.layout import DevError
from vkubelet.pods.volumes import removal

KILLS_MOST = 3
"""Of one container: it waits 10, 20 and 40 s then, until it is started again."""
UNREACHABLE = "the API server cannot be reached"
"""With this an agent may end by itself: whoever supervises it starts it again."""


class World:
    """It lives in `directory`, whose path is short. Everything is killed by the numbers of `chance`."""

    def __init__(self, program: Path, directory: Path, pods: int, chance: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.counted = {f"count-{number}": Counted(f"count-{number}") for number in range(pods)}
        self.trouble: list[str] = []
        self._program = program
        self._directory = directory
        self._chance = chance
        self._node = directory / "node"
        self._space = Namespace(self, "default")
        self._uids: dict[str, str] = {}
        self._ready: control_plane.Ready | None = None
        self._agent: subprocess.Popen[bytes] | None = None

    @property
    def containers(self) -> Path:
        return self._node / "run" / "wasmtime" / "containers"

    @contextlib.contextmanager
    def living(self) -> Iterator[None]:
        """Everything runs, and the pods count."""
        self._start_cluster()
        try:
            self._start_agent()
            self._make_pods()
            yield
        finally:
            self._end()

    def kill_agent(self) -> None:
        assert self._agent is not None
        self._agent.kill()
        self._agent.wait()
        self._killed("agent")
        time.sleep(self._chance.random())
        self._start_agent()

    def kill_launcher(self) -> None:
        """Whoever holds its lock."""
        holder = _holder(self._node / "run" / "wasmtime" / "launcher.lock")
        if holder is not None and self._kill(holder):
            self._killed("launcher")

    def kill_container(self) -> None:
        name = self._chance.choice(list(self.counted))
        if self.kills[name] == KILLS_MOST:
            return
        for identifier, started in self._claims().items():
            spec = self.containers / identifier / "spec"
            ours = spec.exists() and self._uids[name].encode() in spec.read_bytes()
            if ours and not (self.containers / identifier / "exit").exists() and _killed_now(started):
                self.kills[name] += 1
                self._killed("container", f"{identifier} of {name}")

    def kill_cluster(self) -> None:
        """The API server with its etcd, the controllers and the registry.

        All have ended before the next begin: while one still held its port, the next would take another,
        where no node looks for it.
        """
        assert self._ready is not None
        parts = [self._ready.pid, *_children(self._ready.pid)]
        for pid in parts:
            self._kill(pid)
        for pid in parts:
            process.end(pid, 0.0)
        self._killed("control plane")
        time.sleep(3 * self._chance.random())
        self._start_cluster()

    def supervise(self) -> None:
        """Start the agent again, should it have ended because it found no API server."""
        assert self._agent is not None
        if self._agent.poll() is None:
            return
        end = process.tail(self._node / "vkubelet.log")
        if UNREACHABLE not in end:
            self.trouble.append(f"the agent ended by itself, {self._agent.returncode}: {end}")
        self.done["agent that gave up"] += 1
        self._start_agent()

    def look(self) -> None:
        """See what all counters are."""
        for name, counted in self.counted.items():
            with contextlib.suppress(FileNotFoundError):
                counted.see(int((self._volume(name) / "counter").read_text()))

    def pods(self) -> list[dict[str, Any]]:
        """The pods' objects."""
        found: list[dict[str, Any]] = self._space.get("pods")["items"]
        return found

    def log(self, name: str) -> list[str]:
        """All that the pod's logs say, the oldest first."""
        found = sorted((self._node / "pod-logs").glob(f"*_{self._uids[name]}/main/*.log*"), key=_order)
        return [line for path in found for line in path.read_text().splitlines()]

    def attempts(self) -> str:
        """What the node knows of each container, a line for each."""
        lines = []
        for path in sorted(self.containers.iterdir()):
            spec = (path / "spec").read_bytes()
            name = next((name for name, uid in self._uids.items() if uid.encode() in spec), "nobody")
            number = spec.partition(b'restartCount": "')[2].partition(b'"')[0].decode()
            records = [(path / each).read_bytes() for each in ("started", "exit") if (path / each).exists()]
            lines.append(f"{name} {number} {path.name} {records}")
        return "\n".join(sorted(lines))

    @property
    def agent_log(self) -> str:
        return (self._node / "vkubelet.log").read_text()

    def _killed(self, what: str, which: str = "") -> None:
        """Count it, and say so in the agents' log, which can be read in its order then."""
        self.done[what] += 1
        with (self._node / "vkubelet.log").open("a") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} chaos killed: {what} {which}\n")

    def _volume(self, name: str) -> Path:
        return (
            self._node / "root" / "pods" / self._uids[name] / "volumes" / "kubernetes.io~empty-dir" / "data"
        )

    def _start_cluster(self) -> None:
        options = ["--default-ports=false"]
        self._ready = control_plane.start(self._program, self._directory / "cluster", options)

    def _start_agent(self) -> None:
        assert self._ready is not None
        options = node_process.options(self._node, self._ready, "chaos")
        self._node.mkdir(mode=0o700, exist_ok=True)
        command = [sys.executable, "-m", "vkubelet.cli", "run", *options]
        self._agent = process.spawn(command, self._node / "vkubelet.log")

    def _make_pods(self) -> None:
        assert self._ready is not None
        image = push_guest(self._ready.registry, "counter")
        self._space.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
        documents = []
        for name in self.counted:
            spec = pod_spec(
                image,
                *("/data/counter", "0.5"),
                container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
                volumes=[{"name": "data", "emptyDir": {}}],
                nodeName="chaos",
            )
            # A node that is away for minutes is no reason to be moved: there is no other.
            spec["tolerations"] = [{"operator": "Exists"}]
            documents.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
        self._space.kubectl("create", "--filename", "-", input=yaml.safe_dump_all(documents))
        self._space.kubectl("wait", "pods", "--all", "--for=condition=Ready", "--timeout=180s", timeout=200.0)
        self._uids = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in self.pods()}

    def kubectl(self, *arguments: str, input: str | None = None, timeout: float = 90.0) -> str:  # noqa: A002
        """See Namespace."""
        assert self._ready is not None
        return kubectl.run(self._ready.kubeconfig, arguments, stdin=input, timeout=timeout)

    def _claims(self) -> dict[str, files.Started]:
        found = {}
        for path in self.containers.iterdir():
            with contextlib.suppress(FileNotFoundError, files.CorruptFileError):
                found[path.name] = files.decode_started((path / "started").read_bytes())
        return found

    def _kill(self, pid: int) -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def _end(self) -> None:
        if self._agent is not None:
            self._agent.kill()
            self._agent.wait()
        for pid in native(self._node):
            self._kill(pid)
        with contextlib.suppress(DevError):
            control_plane.stop(self._directory / "cluster")
        removal.remove(self._node / "run" / "volumes")


def _killed_now(started: files.Started) -> bool:
    """Kill what runs, and wait for its end.

    With agent and launcher away nobody writes how a killed process ended, or reaps it: one that had ended
    before is not killed once more.
    """
    pidfd = processes.open_pidfd(started.pid, started.start_time)
    if pidfd is None:
        return False
    try:
        if process.first_ready([pidfd], 0.0):
            return False
        processes.end(started.pid, started.start_time)
        return True
    finally:
        os.close(pidfd)


def _children(pid: int) -> list[int]:
    """Those that any thread of it has started."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for children in lists for child in children.read_text().split()]


def _holder(path: Path) -> int | None:
    """The process that has locked a file, proc_locks(5); its children have it open for a moment, too."""
    if path.exists():
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, pid, place, *_ = line.split()
            if kind == "FLOCK" and place.endswith(f":{path.stat().st_ino}"):
                return int(pid)
    return None


def _order(path: Path) -> tuple[int, bool, str]:
    """Of an attempt's files: the rotated ones, by their times, come before the current one."""
    number, _, rest = path.name.partition(".log")
    return int(number), not rest, rest
