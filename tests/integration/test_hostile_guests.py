"""Hostile guests on the real cluster, all at once, beside pods that are probed every second and see nothing.

Each does its worst on the same node: it burns processors, takes all memory, floods its log and its volumes,
waits for ever, lies about links, exits oddly. Then each one's end is looked at, nothing of them may be left,
and no good pod may have noticed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bombs
import pytest
import yaml
from guests import GUESTS, push_bytes, push_guest
from namespaces import Namespace, pod_spec
from waiting import eventually
from wasmtime import wat2wasm

from providers.wasmtime.files import Started, decode_started
from vkubelet.dev import kubectl

pytestmark = [pytest.mark.integration, pytest.mark.crowded]

Json = dict[str, Any]

LISTENING, RUNNING = 40, 10
"""Good pods that are probed by TCP, and by a command."""
PATIENCE = 3
"""Seconds that a probe waits. With one, too, none fails on two processors that do nothing else."""
MIB = 1024 * 1024
LOG_MAX = 2 * MIB
LOG_FILES = 3
CODES = (0, 1, 2, 125, 126, 127, 128, 137, 254, 255, 256, 257, 65535, 2**31 - 1, -1, -128, -(2**31))
LONG = 400_000
"""Bytes of arguments, and of variables: the API server's store takes objects of 1.5 MB."""
SCRATCH = {"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}


@dataclass
class Scene:
    """The node, and the pods on it by their names."""

    space: Namespace
    node: Any
    hostile: dict[str, Json] = field(default_factory=dict)
    good: dict[str, Json] = field(default_factory=dict)

    def status(self, name: str) -> Json:
        """The pod's, when it was last looked at."""
        found: Json = self.hostile[name]["status"]
        return found

    def container(self, name: str) -> Json:
        """The status of a pod's first container."""
        found: Json = self.status(name)["containerStatuses"][0]
        return found

    def terminated(self, name: str) -> Json:
        """How a pod's first container has ended."""
        found: Json = self.container(name)["state"]["terminated"]
        return found

    def log(self, name: str) -> str:
        return self.space.kubectl("logs", name)

    def raw_log(self, name: str) -> bytes:
        """The end of a log that may be no text."""
        command = [kubectl.binary(), "--namespace", self.space.name, "logs", "--tail=5000", name]
        environment = kubectl.environment(self.space.cluster.kubeconfig)
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout

    def log_files(self, name: str) -> list[Path]:
        (folder,) = (self.node.directory / "pod-logs").glob(f"{self.space.name}_{name}_*")
        return sorted(path for path in folder.rglob("*") if path.is_file())

    def started(self, name: str) -> Started:
        """The process of a pod's only container."""
        uid = self.hostile[name]["metadata"]["uid"].encode()
        containers = self.node.directory / "run" / "wasmtime" / "containers"
        (found,) = [each for each in containers.iterdir() if uid in (each / "spec").read_bytes()]
        return decode_started((found / "started").read_bytes())

    def look(self, names: dict[str, Json]) -> None:
        """Look at these pods again."""
        for pod in self.space.get("pods")["items"]:
            if pod["metadata"]["name"] in names:
                names[pod["metadata"]["name"]] = pod

    def create(self, into: dict[str, Json], *specs: tuple[str, Json]) -> None:
        """Create pods on the node, all at once."""
        items = []
        for name, spec in specs:
            into[name] = {}
            spec = {"nodeName": self.node.name, "terminationGracePeriodSeconds": 1, **spec}
            items.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
        self.space.kubectl("create", "--filename=-", input=yaml.safe_dump_all(items))


def done(pod: Json) -> bool:
    """Has the guest ended, or was it ended?"""
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def limits(**amounts: str) -> Json:
    return {"resources": {"limits": {name.replace("_", "-"): amount for name, amount in amounts.items()}}}


def good_pods(tcp: str, actor: str) -> Iterator[tuple[str, Json]]:
    """Pods that ask for little and are probed every second, and end with the first failure."""

    def probed(probe: Json, cpu: str) -> Json:
        probe = {**probe, "periodSeconds": 1, "timeoutSeconds": PATIENCE, "failureThreshold": 1}
        asking = {"resources": {"requests": {"cpu": cpu}}}
        return {"readinessProbe": probe, "livenessProbe": probe, **asking}

    for number, port in enumerate(free_ports(LISTENING)):
        container = probed({"tcpSocket": {"port": port, "host": "127.0.0.1"}}, "5m")
        container["startupProbe"] = {**container["readinessProbe"], "failureThreshold": 60}
        yield f"listens-{number}", pod_spec(tcp, "echo", str(port), container=container, hostNetwork=True)
    for number in range(RUNNING):
        container = probed({"exec": {"command": ["actor", "exit", "0"]}}, "50m")
        container["startupProbe"] = {**container["readinessProbe"], "failureThreshold": 60}
        yield f"runs-{number}", pod_spec(actor, "sleep", "9999", container=container)


def hostile_pods(images: dict[str, str]) -> Iterator[tuple[str, Json]]:
    """One of each kind, which is not started again; those that burn processors as often as there are any."""
    hostile, never = images["hostile"], {"restartPolicy": "Never"}
    on_disk, small = (
        [{"name": "scratch", "emptyDir": {}}],
        [{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}],
    )
    in_memory = [{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}]

    def pod(*args: str, image: str = hostile, **more: Any) -> Json:
        return pod_spec(image, *args, **never, **more)

    for number in range(os.cpu_count() or 1):
        yield f"spin-{number}", pod("spin")
    yield "spin-limited", pod("spin", container=limits(cpu="100m"))
    yield "grow", pod("grow", container=limits(memory="32Mi"))
    for name in ("table", "objects"):
        yield name, pod(image=images[name], container=limits(memory="32Mi"))
    yield "instances", pod(image=images["instances"])
    yield "recurse", pod("recurse")
    for kind in ("endless", "binary", "escapes", "short"):
        yield f"flood-{kind}", pod("flood", kind, "8")
    yield "flood-for-ever", pod("flood", "endless", "1000000000")
    yield "files", pod("files", "/scratch", "20000", container=SCRATCH, volumes=on_disk)
    yield "files-in-root", pod("files", "/", "20000")
    yield "deep", pod("deep", "/scratch", "2500", container=SCRATCH, volumes=on_disk)
    yield "deep-in-root", pod("deep", "/", "2500")
    yield "links", pod("links", "/scratch", container=SCRATCH, volumes=on_disk)
    message = {**SCRATCH, "terminationMessagePath": "/scratch/message"}
    told = pod(
        "link",
        "/scratch/message",
        "../../../../../../../../../../etc/passwd",
        container=message,
        volumes=on_disk,
    )
    yield "message", told
    yield "fill-memory", pod("fill", "/scratch/file", "64", container=SCRATCH, volumes=in_memory)
    yield "fill-volume", pod("fill", "/scratch/file", "16", container=SCRATCH, volumes=small)
    yield "fill-root", pod("fill", "/file", "16", container=limits(ephemeral_storage="1Mi"))
    yield "open", pod("open")
    for how in ("clock", "stdin", "accept"):
        yield f"block-{how}", pod("block", how, container={"stdin": how == "stdin"})
    yield "clocks", pod("clocks")
    others = [
        {"name": f"c{i}", "image": hostile, "args": ["exit", str(code)]} for i, code in enumerate(CODES)
    ]
    yield "codes", pod("exit", "0", others=others)
    long = {"env": [{"name": "LONG", "value": "v" * LONG}]}
    yield "arguments", pod("arguments", *["a" * (LONG // 4)] * 4, container=long)
    yield "dial", pod(image=images["dial"])


@pytest.fixture
def scene(space: Namespace, start_node: Callable[..., Any]) -> Iterator[Scene]:
    node = start_node(
        "hostile", f"--container-log-max-size={LOG_MAX}", f"--container-log-max-files={LOG_FILES}"
    )
    yield Scene(space, node)
    # Whatever has failed: pytest could not remove what some of them make.
    space.kubectl("delete", "pods", "--all", "--wait", "--timeout=60s", timeout=70)


@pytest.fixture(scope="session")
def images(cluster: Any) -> dict[str, str]:
    """What hostile pods run."""
    texts = {
        "table": bombs.TABLE.format(minimum=1),
        "objects": bombs.OBJECTS,
        "instances": bombs.doubling(16),
        "dial": (GUESTS / "dial.wat").read_text(),
    }
    for name, text in texts.items():
        push_bytes(cluster.registry, f"hostile/{name}", bytes(wat2wasm(text)))
    named = {name: f"{cluster.registry}/hostile/{name}:v1" for name in texts}
    return {**named, "hostile": push_guest(cluster.registry, "hostile")}


def test_good_pods_do_not_notice_hostile_ones(
    scene: Scene, images: dict[str, str], actor: str, cluster: Any
) -> None:
    space = scene.space
    scene.create(scene.good, *good_pods(push_guest(cluster.registry, "tcp"), actor))
    space.kubectl("wait", "pods", "--all", "--for=condition=Ready", "--timeout=90s", timeout=100)
    scene.look(scene.good)
    scene.create(scene.hostile, *hostile_pods(images))
    settle(scene)
    space.pod("meanwhile", actor, "sleep", "9999", nodeName=scene.node.name)
    space.wait("pod/meanwhile", "condition=Ready")
    processor_and_memory(scene)
    logs(scene)
    files(scene)
    waits(scene)
    ends(scene)
    removed(scene)
    unnoticed(scene)


def settle(scene: Scene) -> None:
    """Wait until each has had its way: it has ended, or its log says that it is ready."""
    waiting = {name for name in scene.hostile if name not in ("flood-for-ever", "spin-limited")}

    def settled() -> bool:
        scene.look(scene.hostile)
        for name in list(waiting):
            if done(scene.hostile[name]) or is_ready(scene, name):
                waiting.discard(name)
        return not waiting

    eventually(settled, lambda: f"each has had its way: {waiting}", timeout=90)


def is_ready(scene: Scene, name: str) -> bool:
    pattern = f"{scene.space.name}_{name}_*/main/0.log"
    for log in (scene.node.directory / "pod-logs").glob(pattern):
        with contextlib.suppress(FileNotFoundError):  # it is being rotated
            return log.read_bytes().endswith(b"ready\n")
    return False


def processor_and_memory(scene: Scene) -> None:
    for name in ("grow", "table", "objects"):
        ended = scene.terminated(name)
        assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled"), name
    ended = scene.terminated("recurse")
    assert (ended["exitCode"], ended["reason"]) == (134, "Error")
    assert "call stack exhausted" in scene.log("recurse")
    assert "instance count too high" in scene.terminated("instances")["message"]
    shown = json.loads(scene.space.cluster.kubectl("get", "node", scene.node.name, "--output=json"))
    assert "vkubelet.dev/limited" not in shown["metadata"]["annotations"], "a host that bounds what pods use"
    started = scene.started("spin-limited")
    fields = Path(f"/proc/{started.pid}/stat").read_text().rpartition(")")[2].split()
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    assert used < 0.2 * (time.time() - started.started_at / 1e9) + 0.2, "a tenth of a processor, and not two"


def logs(scene: Scene) -> None:
    for kind in ("endless", "binary", "escapes", "short", "for-ever"):
        found = scene.log_files(f"flood-{kind}")
        assert 1 < len(found) <= LOG_FILES + (kind == "for-ever"), "one may just be on its way out"
        assert all(path.stat().st_size <= LOG_MAX for path in found if path.exists())
    # What is no text, or what terminals act on, comes as it was written.
    assert set(scene.raw_log("flood-binary")) == set(range(256))
    assert b"\33[2J" in scene.raw_log("flood-escapes")


def files(scene: Scene) -> None:
    for name in ("files", "files-in-root"):
        assert scene.log(name) == "made 20000\nready\n"
    for name in ("deep", "deep-in-root"):
        assert scene.log(name) == "deep 2500\nready\n"
    said = scene.log("links").splitlines()
    for way in ("read", "path", "make", "mkdir", "up", "root"):
        assert f"{way}: done" not in said, way
    assert scene.log("fill-memory") == f"filled {4 * MIB}: No space left on device\nready\n"
    opened, said_ready = scene.log("open").splitlines()
    assert said_ready == "ready"
    assert 1000 < int(opened.split()[1].rstrip(":")) <= 65536
    for name, message in (
        ("fill-volume", 'Usage of EmptyDir volume "scratch" exceeds the limit "1Mi". '),
        ("fill-root", "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "),
    ):
        scene.space.wait(f"pod/{name}", "jsonpath={.status.phase}=Failed")
        status = scene.space.status(name)
        assert (status["reason"], status["message"]) == ("Evicted", message)


def waits(scene: Scene) -> None:
    for name in ("block-clock", "block-stdin", "clocks"):
        assert scene.status(name)["phase"] == "Running"
        assert scene.log(name).endswith("ready\n")
    assert scene.log("block-accept") == "ready\n"
    assert "stdin:" not in scene.log("block-stdin"), "nobody has written anything"


def ends(scene: Scene) -> None:
    scene.space.wait("pod/codes", "jsonpath={.status.phase}=Failed")
    statuses = scene.space.status("codes")["containerStatuses"]
    found = {one["name"]: one["state"]["terminated"] for one in statuses}
    for number, code in enumerate(CODES):
        ended = found[f"c{number}"]
        wanted = (code % 256, "Completed" if code % 256 == 0 else "Error")
        assert (ended["exitCode"], ended["reason"]) == wanted, code
    assert scene.log("message").endswith("replaced: done\nready\n")
    os.kill(scene.started("message").pid, signal.SIGKILL)
    scene.space.wait("pod/message", "jsonpath={.status.phase}=Failed")
    (linked,) = scene.space.status("message")["containerStatuses"]
    refused = (
        "killed by signal 9 (Killed): Error on reading termination log: too many levels of symbolic links"
    )
    assert linked["state"]["terminated"]["message"] == refused
    given, *_ = scene.log("arguments").splitlines()
    count, _, size = (int(word) for word in given.split() if word.isdigit())
    assert count == 6
    assert size > 2 * LONG
    assert scene.terminated("dial")["exitCode"] == 0, "it may reach neither address"


def removed(scene: Scene) -> None:
    """Delete the hostile pods: all of each goes, however large, deep or odd it is."""
    space, node = scene.space, scene.node
    uids = {pod["metadata"]["uid"] for pod in scene.hostile.values()}
    scene.look(scene.hostile)
    space.kubectl("delete", "pods", *scene.hostile, "--wait", "--timeout=60s", timeout=70)
    run = node.directory / "run" / "wasmtime"

    def left() -> list[str]:
        mounts = Path("/proc/self/mounts").read_text()
        found = [uid for uid in uids if uid in mounts]
        for place in ("root/pods", "run/volumes"):
            found += [str(path) for uid in uids for path in (node.directory / place).glob(f"{uid}*")]
        found += [str(path) for path in (run / "trash").iterdir()]
        for spec in (run / "containers").glob("*/spec"):
            with contextlib.suppress(FileNotFoundError):  # an instance of a probe's
                text = spec.read_bytes()
                found += [str(spec) for uid in uids if uid.encode() in text]
        return found

    eventually(lambda: not left(), lambda: f"nothing of them is left: {left()[:3]}", timeout=30)


def unnoticed(scene: Scene) -> None:
    """No good pod was restarted, failed a probe or was unready for a moment."""
    selector = "--field-selector=reason=Unhealthy"
    events = json.loads(scene.space.kubectl("get", "events", selector, "--output=json"))["items"]
    failures = [
        (event["involvedObject"]["name"], event["message"])
        for event in events
        if "Startup" not in event["message"]
    ]
    assert not failures
    before = {name: ready_since(pod) for name, pod in scene.good.items()}
    scene.look(scene.good)
    assert {name: ready_since(pod) for name, pod in scene.good.items()} == before
    assert not [
        name for name, pod in scene.good.items() if pod["status"]["containerStatuses"][0]["restartCount"]
    ]


def ready_since(pod: Json) -> tuple[str, str]:
    (ready,) = [each for each in pod["status"]["conditions"] if each["type"] == "Ready"]
    return ready["status"], ready["lastTransitionTime"]
