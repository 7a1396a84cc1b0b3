"""Probes and lifecycle hooks on the real cluster: what they make of a pod, and what they say."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from namespaces import Namespace
from waiting import eventually

pytestmark = pytest.mark.integration

QUICK = {"periodSeconds": 1, "failureThreshold": 1}
HEALTHY = {"exec": {"command": ["cat", "/healthy"]}}


class Server(http.server.ThreadingHTTPServer):
    """Answers with `code` and counts what it is asked."""

    code = 200
    asked: list[tuple[str, str]]


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append((self.path, self.headers.get("User-Agent", "")))
            self.send_response(made.code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's name for it
            """Nothing to say."""

    made = Server(("127.0.0.1", 0), Handler)
    made.asked = []
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def get(server: Server, path: str) -> dict[str, Any]:
    return {"httpGet": {"host": "127.0.0.1", "port": server.server_port, "path": path}}


def main(space: Namespace, pod: str) -> dict[str, Any]:
    found: dict[str, Any] = space.status(pod)["containerStatuses"][0]
    return found


def test_a_command_that_fails_for_too_long_has_the_container_restarted(space: Namespace, actor: str) -> None:
    container = {"livenessProbe": HEALTHY | QUICK}
    space.pod("sick", actor, "sleep", "1000", container=container)
    space.wait("pod/sick", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    message = space.wait_event("sick", "Unhealthy")
    assert message.startswith("Liveness probe failed: ")
    assert "/healthy" in message
    assert main(space, "sick")["lastState"]["terminated"]["exitCode"] == 137
    space.pod("well", actor, "write", "/healthy=yes", "sleep", "1000", container=container)
    space.wait("pod/well", "condition=Ready")
    assert main(space, "well")["restartCount"] == 0


def test_readiness_follows_the_probe_both_ways(space: Namespace, actor: str, server: Server) -> None:
    server.code = 503
    space.pod("turns", actor, "sleep", "1000", container={"readinessProbe": get(server, "/ready") | QUICK})
    eventually(lambda: len(server.asked) >= 2, "the probe asks")
    assert (
        space.wait_event("turns", "Unhealthy")
        == "Readiness probe failed: HTTP probe failed with statuscode: 503"
    )
    assert not main(space, "turns")["ready"]
    server.code = 200
    space.wait("pod/turns", "condition=Ready")
    assert {path for path, _ in server.asked} == {"/ready"}
    assert all(agent.startswith("kube-probe/") for _, agent in server.asked)
    server.code = 500
    space.wait("pod/turns", "condition=Ready=false")


def test_a_startup_probe_holds_the_others_back(space: Namespace, actor: str, server: Server) -> None:
    server.code = 503
    container = {
        "startupProbe": get(server, "/started") | {"periodSeconds": 1, "failureThreshold": 100},
        "readinessProbe": get(server, "/ready") | QUICK,
    }
    space.pod("slow", actor, "sleep", "1000", container=container)
    eventually(lambda: len(server.asked) >= 3, "the startup probe asks")
    assert {path for path, _ in server.asked} == {"/started"}
    assert not main(space, "slow")["started"]
    server.code = 200
    space.wait("pod/slow", "condition=Ready")
    assert main(space, "slow")["started"]


def test_a_port_that_nobody_listens_on(space: Namespace, actor: str, server: Server) -> None:
    port = server.server_port
    probe = {"tcpSocket": {"host": "127.0.0.1", "port": port}} | QUICK
    space.pod("open", actor, "sleep", "1000", container={"readinessProbe": probe})
    space.wait("pod/open", "condition=Ready")
    closed = {"tcpSocket": {"host": "127.0.0.1", "port": 1}} | QUICK
    space.pod("closed", actor, "sleep", "1000", container={"readinessProbe": closed})
    message = space.wait_event("closed", "Unhealthy")
    assert message == "Readiness probe failed: dial tcp 127.0.0.1:1: connect: connection refused"


def test_hooks_run_in_the_container(space: Namespace, actor: str, server: Server) -> None:
    lifecycle = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo begun > /begun"]}},
        "preStop": {"httpGet": get(server, "/stopping")["httpGet"]},
    }
    space.pod("hooked", actor, "sleep", "1000", container={"lifecycle": lifecycle})
    space.wait("pod/hooked", "condition=Ready")
    assert space.kubectl("exec", "hooked", "--", "cat", "/begun") == "begun\n"
    space.kubectl("delete", "pod/hooked")
    assert [path for path, _ in server.asked] == ["/stopping"]


def test_a_post_start_hook_that_fails_ends_the_container(space: Namespace, actor: str) -> None:
    lifecycle = {"postStart": {"exec": {"command": ["sh", "-c", "exit 3"]}}}
    space.pod("failing", actor, "sleep", "1000", container={"lifecycle": lifecycle})
    assert space.wait_event("failing", "FailedPostStartHook") == "PostStartHook failed"
    space.wait("pod/failing", "jsonpath={.status.containerStatuses[0].restartCount}=1")


def test_a_pre_stop_hook_is_given_up_with_the_grace_period(space: Namespace, actor: str) -> None:
    lifecycle = {"preStop": {"exec": {"command": ["sleep", "1000"]}}}
    space.pod(
        "stuck",
        actor,
        "sleep",
        "1000",
        container={"lifecycle": lifecycle},
        terminationGracePeriodSeconds=2,
    )
    space.wait("pod/stuck", "condition=Ready")
    space.kubectl("delete", "pod/stuck", timeout=40)
