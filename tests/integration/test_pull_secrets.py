"""Private images: a registry that wants a password, secrets of the API server, and who gets what is there."""

from __future__ import annotations

import base64
import os
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from guests import push_guest
from namespaces import Namespace

pytestmark = pytest.mark.integration

WORD = "a-word-of-honour"


class Door(ThreadingHTTPServer):
    """In front of the real registry: it lets in whoever knows the word."""

    daemon_threads = True

    def __init__(self, registry: str) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.registry = registry
        self.asked: list[tuple[str, bool]] = []

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Visit(BaseHTTPRequestHandler):
    server: Door

    def do_GET(self) -> None:
        wanted = base64.b64encode(f"pods:{WORD}".encode()).decode()
        let_in = self.headers.get("Authorization") == f"Basic {wanted}"
        self.server.asked.append((self.path, let_in))
        if not let_in:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="private"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        accept = {"Accept": self.headers.get("Accept", "*/*")}
        url = f"http://{self.server.registry}{self.path}"
        answer = requests.request(self.command, url, headers=accept, timeout=30)
        self.send_response(answer.status_code)
        for name in ("Content-Type", "Docker-Content-Digest", "Content-Length"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.content)

    do_HEAD = do_GET  # noqa: N815  http.server's name for it

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: what was asked is kept."""


@pytest.fixture
def door(cluster: Any) -> Iterator[Door]:
    with Door(cluster.registry) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def secret(space: Namespace, name: str, server: str, word: str) -> None:
    space.kubectl(
        "create",
        "secret",
        "docker-registry",
        name,
        f"--docker-server={server}",
        "--docker-username=pods",
        f"--docker-password={word}",
    )


def test_a_private_image_is_for_pods_that_may_have_it(
    space: Namespace, start_node: Callable[..., Any], cluster: Any, door: Door
) -> None:
    insecure = f"--insecure-registries={cluster.registry},{door.name}"
    node = start_node("private", insecure)
    push_guest(cluster.registry, "actor", "private")
    image = f"{door.name}/actor:private"
    on = {"nodeName": node.name}
    secret(space, "good", door.name, WORD)
    secret(space, "bad", door.name, "a-lie")
    space.pod("with", image, "sleep", "600", imagePullSecrets=[{"name": "bad"}, {"name": "good"}], **on)
    space.wait("pod/with", "condition=Ready")
    assert any(let_in for _, let_in in door.asked)
    # It is on the node now, which helps nobody who could not have pulled it.
    for name, secrets in {"without": [], "wrong": [{"name": "bad"}]}.items():
        space.pod(name, image, "sleep", "600", imagePullSecrets=secrets, **on)
        waiting = space.wait_reason(name, "ErrImagePull")
        assert "401" in waiting["message"]
        assert door.name in waiting["message"]
        assert WORD not in waiting["message"]
    space.pod("never", image, "sleep", "600", container={"imagePullPolicy": "Never"}, **on)
    space.wait_reason("never", "ErrImageNeverPull")
    # What a pod lacks is told, and starts it when it is there.
    space.pod("late", image, "sleep", "600", imagePullSecrets=[{"name": "later"}], **on)
    assert space.wait_event("late", "FailedToRetrieveImagePullSecret") == (
        "Unable to retrieve some image pull secrets (later); attempting to pull the image may not succeed."
    )
    secret(space, "later", door.name, WORD)
    space.wait("pod/late", "condition=Ready", 120)
    # The next agent knows it too, and asks nobody.
    os.kill(node.pid, signal.SIGKILL)
    node.start(insecure)
    asked = len(door.asked)
    space.pod("again", image, "sleep", "600", imagePullSecrets=[{"name": "good"}], **on)
    space.wait("pod/again", "condition=Ready")
    assert len([path for path, let_in in door.asked[asked:] if let_in]) == 0
    assert WORD not in node.log.read_text()
