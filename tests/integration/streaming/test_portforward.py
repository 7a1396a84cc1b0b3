"""kubectl port-forward against a real node, over WebSockets and over SPDY."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from guests import push_guest
from streaming import Talk

pytestmark = pytest.mark.integration

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeName: {node}
  tolerations: [{{operator: Exists}}]
  hostNetwork: true
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
    - {{name: echo, image: {image}, args: [echo, "0"]}}
    - {{name: sink, image: {image}, args: [sink, "0"]}}
    - {{name: serve, image: {image}, args: [serve, "0", "5000000"]}}
"""


@dataclass(frozen=True)
class Served:
    """A pod that serves TCP, and the port of each of its containers."""

    pod: str
    ports: dict[str, int]


@pytest.fixture(scope="module")
def served(talk: Talk) -> Iterator[Served]:
    name = f"served-{talk.mode}"
    image = push_guest(talk.image.partition("/")[0], "tcp")
    talk.apply(name, MANIFEST.format(name=name, node=talk.node, image=image))
    ports = {}
    for container in ("echo", "sink", "serve"):
        said = talk.logs(container, until="listening on", pod=name)
        ports[container] = int(re.findall(r"listening on (\d+)", said)[0])
    yield Served(name, ports)
    talk.kubectl("delete", "pod", name, "--grace-period=0", "--force")


@contextmanager
def forwarded(talk: Talk, pod: str, port: int) -> Iterator[int]:
    """The local port that kubectl chose."""
    with talk.start("port-forward", f"pod/{pod}", f":{port}") as client:
        assert client.stdout is not None
        try:
            line = client.stdout.readline().decode()
            found = re.match(r"Forwarding from 127.0.0.1:(\d+) -> ", line)
            assert found is not None, line or client.communicate()[1]
            yield int(found[1])
        finally:
            client.kill()


def exchange(port: int, data: bytes) -> bytes:
    """Send all of it, say that it is all, and read to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        sending = threading.Thread(
            target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR))
        )
        sending.start()
        received = bytearray()
        while block := connection.recv(1 << 16):
            received += block
        sending.join()
    return bytes(received)


def test_what_is_sent_comes_back(talk: Talk, served: Served) -> None:
    data = os.urandom(3_000_001)
    with forwarded(talk, served.pod, served.ports["echo"]) as port:
        assert exchange(port, data) == data


def test_many_connections_at_once(talk: Talk, served: Served) -> None:
    results: dict[int, bytes] = {}

    def one(number: int, port: int) -> None:
        results[number] = exchange(port, b"%d" % number * 1000)

    with forwarded(talk, served.pod, served.ports["echo"]) as port:
        threads = [threading.Thread(target=one, args=(number, port)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {number: b"%d" % number * 1000 for number in range(40)}


def test_each_direction_ends_by_itself(talk: Talk, served: Served) -> None:
    with forwarded(talk, served.pod, served.ports["sink"]) as port:
        assert exchange(port, bytes(1_000_000)) == b"1000000\n"
    with forwarded(talk, served.pod, served.ports["serve"]) as port:
        received = exchange(port, b"")
    assert len(received) == 5_000_000
    assert received[:300] == bytes(number % 251 for number in range(300))


def test_a_port_that_nobody_listens_on(talk: Talk, served: Served) -> None:
    with talk.start("port-forward", f"pod/{served.pod}", ":1") as client:
        assert client.stdout is not None
        assert client.stderr is not None
        port = int(re.findall(rb":(\d+) -> ", client.stdout.readline())[0])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            assert connection.recv(1) == b""
        seen = client.stderr.readline()
        client.kill()
    assert b"failed to connect to port 1 of the pod: connection refused" in seen


def test_what_else_listens_on_the_node_is_out_of_reach(talk: Talk, served: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as private:
        private.settimeout(0)
        with (
            forwarded(talk, served.pod, private.getsockname()[1]) as port,
            socket.create_connection(("127.0.0.1", port), timeout=60) as connection,
        ):
            assert connection.recv(1) == b""
        with pytest.raises(BlockingIOError):
            private.accept()
