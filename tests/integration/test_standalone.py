"""A node with no API server: a directory of pods, its log, and its API on a socket."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from authority import Authority
from exchanging import by_renaming, by_swapping_the_link
from guests import push_guest
from waiting import eventually

from vkubelet.dev import node as node_process
from vkubelet.pods.volumes import removal

pytestmark = pytest.mark.integration


@dataclass
class Alone:
    """A `vkubelet run` process without a kubeconfig."""

    directory: Path
    registry: str
    within: tuple[str, ...] = ()
    """The command that runs it, if it is not run at once."""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def manifests(self) -> Path:
        return self.directory / "manifests"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def start(self, *flags: str) -> None:
        """Start it and wait until it answers that it is healthy."""
        self.launch(*flags)
        eventually(lambda: self.ended() or self.healthy(), "an answer of the node")
        assert not self.ended(), self.log

    def launch(self, *flags: str) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(*flags), stdout=log, stderr=log, cwd=self.directory)

    def command(self, *flags: str) -> list[str]:
        self.manifests.mkdir(exist_ok=True)
        options = [
            f"--static-pod-path={self.manifests}",
            "--node-name=alone",
            "--node-ip=127.0.0.1",
            f"--root-dir={self.directory / 'root'}",
            f"--run-dir={self.directory / 'run'}",
            f"--pod-logs-dir={self.directory / 'logs'}",
            f"--insecure-registries={self.registry}",
        ]
        return [*self.within, sys.executable, "-m", "vkubelet.cli", "run", *options, *flags]

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def healthy(self) -> bool:
        try:
            return self.get("/healthz") == (200, "ok")
        except OSError:
            return False

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(90)

    def get(self, path: str) -> tuple[int, str]:
        """What the kubelet API's socket answers."""
        connection = http.client.HTTPConnection("node")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(str(self.directory / "run" / "kubelet.sock"))
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def pods(self) -> dict[str, dict[str, Any]]:
        _, text = self.get("/pods")
        return {pod["metadata"]["name"]: pod for pod in json.loads(text)["items"]}

    def says(self, name: str, text: str) -> None:
        """The pod's container has written this, and nothing else; one that runs may be about to."""
        path = f"/containerLogs/default/{name}/main"
        eventually(lambda: self.get(path) == (200, text), f"{text!r} of {name}")

    def running(self, name: str) -> str:
        """The id of the pod's container, once it runs."""

        found: dict[str, Any] = {}

        def runs() -> bool:
            # What was seen running is kept: the pod may be replaced in the next moment.
            nonlocal found
            statuses = self.pods().get(name, {}).get("status", {}).get("containerStatuses") or [{}]
            found = statuses[0]
            return bool(found.get("state", {}).get("running"))

        eventually(runs, f"{name} running")
        return str(found["containerID"])

    def write(self, name: str, image: str, *args: str, **spec: Any) -> None:
        container = {"name": "main", "image": image, "args": list(args), **spec.pop("container", {})}
        pod = {"containers": [container], **spec}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod}
        (self.manifests / f".{name}").write_text(yaml.safe_dump(document))
        (self.manifests / f".{name}").rename(self.manifests / f"{name}.yaml")


@pytest.fixture
def alone(cluster: Any, tmp_path: Path) -> Iterator[Alone]:
    node = Alone(tmp_path, cluster.registry)
    yield node
    try:
        end_all(node, tmp_path)
    finally:
        removal.remove(tmp_path / "run" / "volumes")  # what one that was killed left mounted


def end_all(node: Alone, directory: Path) -> None:
    """End the node, and the containers that it left."""
    if node.process is None:
        return
    if not node.ended():
        node.end()
    shutil.rmtree(node.manifests)
    if node_process.left_containers(directory):
        node.start()  # ends what runs for no file
        eventually(lambda: not node_process.left_containers(directory), "the end of all containers")
        node.end()


@pytest.fixture(scope="module")
def guest(cluster: Any) -> str:
    return push_guest(cluster.registry, "actor", "alone")


NO_INOTIFY = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
"""For those in a user namespace of their own, and nobody else (namespaces(7), /proc/sys/user)."""


def test_a_user_who_has_no_inotify_instance_left(alone: Alone, guest: str) -> None:
    alone.within = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", NO_INOTIFY, "sh")
    if subprocess.run([*alone.within, "true"], check=False).returncode != 0:
        pytest.skip("user namespaces are not allowed here")
    alone.manifests.mkdir()
    alone.write("said", guest, "print", "hello", "sleep", "1000")
    alone.start()
    alone.running("said-alone")
    alone.says("said-alone", "hello\n")
    lacking = "no inotify instance left: raise the sysctl fs.inotify.max_user_instances"
    status, text = alone.get("/containerLogs/default/said-alone/main?follow=true")
    assert (status, lacking in text) == (500, True), text
    looked = "static pods are looked at every 20 s, since they cannot be watched: "
    assert f"{looked}[Errno 24] {lacking}" in alone.log


def test_files_are_pods_that_the_socket_shows(alone: Alone, guest: str) -> None:
    alone.start()
    alone.write("web", guest, "print", "hello", "sleep", "1000")
    first = alone.running("web-alone")
    shown = alone.pods()["web-alone"]
    assert shown["status"]["phase"] == "Running"
    assert {"Ready", "PodScheduled"} <= {condition["type"] for condition in shown["status"]["conditions"]}
    alone.says("web-alone", "hello\n")
    assert "web-alone" in alone.get("/runningpods/")[1]
    assert 'container="main"' in alone.get("/metrics/cadvisor")[1]
    assert "Pod default/web-alone spec.containers{main}: Started: Container started" in alone.log
    alone.write("web", guest, "print", "changed", "sleep", "1000")
    eventually(lambda: alone.running("web-alone") != first, "another container")
    alone.says("web-alone", "changed\n")
    (alone.manifests / "web.yaml").unlink()
    eventually(lambda: alone.pods() == {}, "the end of the pod")
    assert not list((alone.directory / "logs").iterdir())


def test_a_pod_that_ends_stays_as_it_ended_and_a_broken_file_is_in_the_log(alone: Alone, guest: str) -> None:
    alone.manifests.mkdir()
    (alone.manifests / "broken.yaml").write_text("kind: Pod\nkind: Pod\n")
    alone.write("once", guest, "exit", "4", restartPolicy="Never")
    alone.start()

    def phase() -> str:
        return str(alone.pods().get("once-alone", {}).get("status", {}).get("phase"))

    eventually(lambda: phase() == "Failed", "the pod's end")
    assert (
        alone.pods()["once-alone"]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
    )
    assert f"{alone.manifests}/broken.yaml: line 2: the key 'kind' is given twice" in alone.log


def test_containers_outlive_the_agent_and_are_adopted(alone: Alone, guest: str) -> None:
    alone.start()
    alone.write("stays", guest, "print", "up", "sleep", "1000")
    alone.write("goes", guest, "sleep", "1000")
    before = alone.running("stays-alone")
    alone.running("goes-alone")
    alone.end(signal.SIGKILL)
    (alone.manifests / "goes.yaml").unlink()
    alone.start()
    assert alone.running("stays-alone") == before
    assert alone.pods()["stays-alone"]["status"]["containerStatuses"][0]["restartCount"] == 0
    eventually(lambda: len(json.loads(alone.get("/runningpods/")[1])["items"]) == 1, "the end of the other")
    alone.end(signal.SIGTERM)
    alone.start("--drain-on-shutdown=true")
    assert alone.running("stays-alone") == before
    alone.end(signal.SIGTERM)
    assert not (alone.directory / "run" / "kubelet.sock").exists()


def test_the_socket_is_its_owners_and_there_is_no_other_way_in(alone: Alone) -> None:
    alone.start()
    run = alone.directory / "run"
    assert (run / "kubelet.sock").stat().st_mode & 0o777 == 0o600
    assert run.stat().st_mode & 0o777 == 0o700
    assert alone.process is not None
    listening = Path(f"/proc/{alone.process.pid}/net/tcp").read_text()
    opened = {str(entry.readlink()) for entry in Path(f"/proc/{alone.process.pid}/fd").iterdir()}
    listed = [line.split() for line in listening.splitlines()[1:]]
    assert not [line for line in listed if line[3] == "0A" and f"socket:[{line[9]}]" in opened]


def test_a_door_over_tls_must_be_guarded_whole(alone: Alone) -> None:
    files = ("--tls-cert-file=a", "--tls-private-key-file=b")
    done = subprocess.run(alone.command(*files), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "missing: client_ca_file, authorization_mode=AlwaysAllow" in done.stderr


def test_plugins_that_cannot_be_used_are_told_of_at_once(alone: Alone, tmp_path: Path) -> None:
    provider = {
        "name": "missing",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "matchImages": ["r.io"],
    }
    document = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig"}
    (tmp_path / "providers.yaml").write_text(json.dumps(document | {"providers": [provider]}))
    options = (
        f"--image-credential-provider-config={tmp_path / 'providers.yaml'}",
        f"--image-credential-provider-bin-dir={tmp_path}",
    )
    done = subprocess.run(alone.command(*options), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "providers.yaml: providers[0].defaultCacheDuration: is no duration" in done.stderr


def test_over_tls_it_answers_those_whom_the_ca_vouches_for(alone: Alone, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    (tmp_path / "ca.pem").write_text(authority.pem)
    certificate, key = authority.issue("node", serving=True)
    alone.start(
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--client-ca-file={tmp_path / 'ca.pem'}",
        "--authorization-mode=AlwaysAllow",
        "--address=127.0.0.1",
        "--port=0",
    )
    found = re.search(r"listens on port (\d+)", alone.log)
    assert found is not None
    port = int(found[1])
    somebody, nobody = authority.client(authority.issue("somebody")), authority.client(None)
    assert [asked(port, context) for context in (somebody, nobody)] == [200, 401]


@pytest.mark.parametrize("exchange", [by_renaming, by_swapping_the_link])
def test_over_tls_another_client_ca_is_believed_without_a_restart(
    alone: Alone, tmp_path: Path, exchange: Callable[[Path, str], None]
) -> None:
    former, later = (Authority(tmp_path, name) for name in ("former", "later"))
    certificate, key = former.issue("node", serving=True)
    (tmp_path / "ca").mkdir()
    exchange(tmp_path / "ca" / "ca.pem", former.pem)
    alone.start(
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--client-ca-file={tmp_path / 'ca' / 'ca.pem'}",
        "--authorization-mode=AlwaysAllow",
        "--address=127.0.0.1",
        "--port=0",
    )
    found = re.search(r"listens on port (\d+)", alone.log)
    assert found is not None
    port = int(found[1])
    old, new = (former.client(authority.issue("somebody")) for authority in (former, later))
    assert [asked(port, context) for context in (old, new)] == [200, None]
    (tmp_path / "broken").write_text("no certificate")
    (tmp_path / "broken").rename(tmp_path / "ca" / "ca.pem")
    eventually(lambda: "InvalidClientCA" in alone.log, "what is wrong with it")
    assert [asked(port, context) for context in (old, new)] == [200, None]
    (tmp_path / "ca" / "ca.pem").unlink()
    exchange(tmp_path / "ca" / "ca.pem", later.pem)
    eventually(lambda: asked(port, new) == 200, "the new CA's client let in")
    assert asked(port, old) is None


def asked(port: int, context: ssl.SSLContext) -> int | None:
    """How it is answered over TLS; None for whom the handshake refuses."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
    try:
        connection.request("GET", "/pods")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def test_static_pods_run_while_the_api_server_cannot_be_reached(alone: Alone, guest: str) -> None:
    alone.manifests.mkdir()
    alone.write("web", guest, "print", "hello", "sleep", "1000")
    nobody = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "x", "user": {"token": "x"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    (alone.directory / "kubeconfig").write_text(yaml.safe_dump(nobody))
    flags = ("--address=127.0.0.1", "--port=0", "--drain-on-shutdown=true", "--client-ca-file=ca.pem")
    (alone.directory / "ca.pem").write_text(Authority(alone.directory, "ca").pem)
    alone.launch(f"--kubeconfig={alone.directory / 'kubeconfig'}", *flags)

    def logged() -> str:
        return "".join(path.read_text() for path in (alone.directory / "logs").glob("*/main/0.log"))

    eventually(lambda: alone.ended() or "hello" in logged(), "the pod's output")
    assert "node not registered yet" in alone.log
    alone.end()
    (container,) = (alone.directory / "run").glob("*/containers/*")
    assert (container / "exit").exists(), "it was told to take its pods along"
