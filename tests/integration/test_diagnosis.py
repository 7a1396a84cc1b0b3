"""What an administrator finds out of a node that runs: by its API, its log, signals, traces and events."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from namespaces import Namespace
from processes import launcher
from serving import answering
from waiting import eventually

pytestmark = pytest.mark.integration

SECRET = "a-value-that-nobody-is-told"  # noqa: S105  it is no password


class Collector(http.server.ThreadingHTTPServer):
    """Takes traces in."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def trace(self, pod: str) -> dict[str, dict[str, Any]]:
        """The spans of the pod's start by name; none before it is complete."""
        for root in self.spans:
            named = {"key": "k8s.pod.name", "value": {"stringValue": pod}}
            if root["name"] == "pod start" and named in root["attributes"]:
                return {span["name"]: span for span in self.spans if span["traceId"] == root["traceId"]}
        return {}


class Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
        for resource in body["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                self.server.spans += scope["spans"]

    def log_message(self, *_: object) -> None:
        """Into no log."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    with answering(made):
        yield made


@pytest.fixture
def told(start_node: Callable[..., Any], collector: Collector) -> Any:
    """A node that is to tell all that it can."""
    return start_node(
        "told",
        "--logging-format=json",
        f"--tracing-endpoint={collector.url}",
        "--tracing-sampling-rate-per-million=1000000",
    )


def ask(node: Any, path: str, method: str = "GET", body: bytes = b"", token: str = "") -> tuple[int, str]:
    """Ask the node's own port: by the API server's certificate, or with a token instead.

    The API server's proxy leads to no address of this machine alone.
    """
    # Whose certificate the node serves is the kubelet-serving signer's matter, tried elsewhere.
    trusting = ssl._create_unverified_context()  # noqa: S323
    if not token:
        name = node.cluster.directory / "pki" / "apiserver-kubelet-client"
        trusting.load_cert_chain(name.with_suffix(".crt"), name.with_suffix(".key"))
    shown = json.loads(node.cluster.kubectl("get", "node", node.name, "--output=json"))
    port = shown["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=trusting, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def raw(node: Any, path: str) -> str:
    status, text = ask(node, f"/debug/{path}")
    assert status == 200, text
    return text


def records(node: Any) -> list[dict[str, Any]]:
    """The node's log. Its last line may not be whole yet."""
    whole, _, _ = node.log.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def test_a_node_that_runs_tells_what_it_does(
    told: Any, space: Namespace, actor: str, collector: Collector
) -> None:
    environment = [{"name": "PASSWORD", "value": SECRET}]
    hook = {"postStart": {"exec": {"command": ["no-such-command"]}}}
    space.pod("good", actor, "sleep", "1000", nodeName=told.name, container={"env": environment})
    space.pod("bad", actor, "sleep", "1000", nodeName=told.name, container={"lifecycle": hook})
    space.wait("pod/good", "condition=Ready")

    by_name = {each["pod"]["name"]: each for each in json.loads(raw(told, "pods"))}
    good = by_name["good"]
    assert (good["pod"]["namespace"], good["pod"]["waitsFor"]) == (space.name, ["news"])
    assert good["pod"]["containers"][0]["state"] == "running"
    assert good["tasks"][f"pod {space.name}/good"].startswith("vkubelet.pods.")
    assert f"task 'pod {space.name}/good': " in raw(told, "tasks")
    queues = json.loads(raw(told, "queues"))
    assert queues.keys() == {"statuses", "events", "images", "pods", "probes"}
    assert queues["pods"]["workers"] == len(by_name)

    def about(name: str) -> list[dict[str, Any]]:
        return [each for each in records(told) if each.get("pod") == {"name": name, "namespace": space.name}]

    eventually(lambda: about("bad"), "a record about the pod whose hook fails")
    failed = about("bad")[0]
    assert (failed["level"], failed["containerName"]) == ("warning", "main")
    assert failed["podUID"] == space.get("pod/bad")["metadata"]["uid"]

    assert not [each for each in records(told) if each["level"] == "debug"]
    answer = ask(told, "/debug/flags/v", "PUT", b"4")
    assert answer == (200, "successfully set klog.logging.verbosity to 4\n")
    eventually(lambda: [each for each in records(told) if each["level"] == "debug"], "a record for debugging")

    eventually(lambda: "start" in collector.trace("good"), "the trace of the pod's start")
    trace = collector.trace("good")
    assert {"pod start", "volumes", "container", "image", "environment", "compile", "start"} == trace.keys()
    assert trace["start"]["parentSpanId"] == trace["container"]["spanId"]

    os.kill(told.pid, signal.SIGUSR1)
    state = told.directory / "run" / "state.json"
    eventually(state.exists, "the state in its file")
    assert state.stat().st_mode & 0o777 == 0o600
    assert "good" in [each["pod"]["name"] for each in json.loads(state.read_bytes())["pods"]]
    os.kill(told.pid, signal.SIGUSR2)
    eventually(lambda: "Current thread" in told.log.read_text(), "the stacks of the threads")

    everything = raw(told, "pods") + raw(told, "tasks") + state.read_text() + told.log.read_text()
    assert SECRET not in everything + json.dumps(collector.spans)


def test_who_may_not_use_the_nodes_proxy_is_told_nothing(told: Any, space: Namespace) -> None:
    nobody = space.kubectl("create", "token", "default").strip()
    for path in ("pods", "tasks", "queues", "none"):
        status, text = ask(told, f"/debug/{path}", token=nobody)
        assert status == 403
        assert "resource=nodes, subresource(s)=[proxy]" in text
    assert ask(told, "/debug/flags/v", "PUT", b"4", token=nobody)[0] == 403
    assert ask(told, "/debug/pods", token="no-token")[0] == 401  # noqa: S106


def test_trouble_is_seen_at_the_node(told: Any, space: Namespace, actor: str) -> None:
    space.pod("good", actor, "sleep", "1000", nodeName=told.name)
    space.wait("pod/good", "condition=Ready")
    container = space.status("good")["containerStatuses"][0]["containerID"]
    os.kill(launcher(told.directory), signal.SIGKILL)

    def reasons() -> list[str]:
        fields = f"involvedObject.kind=Node,involvedObject.name={told.name}"
        shown = told.cluster.kubectl("get", "events", f"--field-selector={fields}", "--output=json")
        return [event["reason"] for event in json.loads(shown)["items"]]

    eventually(lambda: "LauncherGone" in reasons(), "the event")
    assert space.status("good")["containerStatuses"][0]["containerID"] == container


def test_the_doctor_asks_the_cluster_what_a_node_may_do(told: Any) -> None:
    def doctor(*flags: str) -> tuple[int, dict[str, tuple[str, str]]]:
        paths = [f"--{name}={told.directory / place}" for name, place in PLACES.items()]
        command = [sys.executable, "-m", "vkubelet.cli", "doctor", "--json", "--port=0", *paths, *flags]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        checks = json.loads(ended.stdout)["checks"]
        return ended.returncode, {each["name"]: (each["status"], each["found"]) for each in checks}

    code, found = doctor(f"--node-name={told.name}", f"--kubeconfig={told.directory / 'kubeconfig'}")
    assert code == 0, found
    assert found["agent"][1].startswith(f"process {told.pid} runs on")
    assert found["api server"][0] == "ok"
    assert found["identity"][0] == "ok"
    assert f"system:node:{told.name}" in found["identity"][1]
    assert found["permissions"][0] == "ok"

    # The certificate of one node is worth little to another.
    code, found = doctor("--node-name=another", f"--kubeconfig={told.directory / 'kubeconfig'}")
    assert code == 1
    assert found["identity"][0] == "warning"
    assert found["permissions"][0] == "missing"


PLACES = {"root-dir": "root", "run-dir": "run", "pod-logs-dir": "pod-logs"}
