"""What a stream's client and the node see when the agent ends in the middle of it, and what is left after."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guests import push_guest
from processes import launcher
from streaming import MANIFEST, Talk

pytestmark = pytest.mark.integration

DEADLINE = 60.0


@pytest.fixture(scope="module", params=["websocket", "spdy"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def own(request: pytest.FixtureRequest, cluster, start_node, mode: str) -> Iterator[tuple[Talk, object]]:
    """A pod on a node of the test's own, which may be killed."""
    name = f"{request.function.__name__.replace('_', '-')[:20]}-{mode}"
    node = start_node(name)
    image = push_guest(cluster.registry, "actor")
    talk = Talk(mode, cluster.kubeconfig, name, name, image, node.directory)
    talk.apply(name, MANIFEST.format(name=name, node=name, image=image))
    talk.logs("main", until="ready")
    yield talk, node
    talk.kubectl("delete", "pod", name, "--grace-period=0", "--force")


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the kernel or another process is about to do."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def children(pid: int) -> set[int]:
    """The processes whose parent this is."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.add(int(stat.parent.name))
    return found


def test_streams_end_with_the_agent_and_containers_do_not(own, mode: str) -> None:
    talk, node = own
    keeper = launcher(node.directory)
    containers = children(keeper)
    command = ("actor", "print", "begun", "sleep", "600")
    running = [talk.start("exec", talk.pod, "-c", "main", "--", *command) for _ in range(3)]
    for client in running:
        assert client.stdout is not None
        assert client.stdout.readline() == b"begun\n"
    attached = talk.start("attach", "-i", talk.pod, "-c", "hearing")
    os.kill(node.pid, signal.SIGKILL)
    for client in (*running, attached):
        client.communicate(timeout=DEADLINE)
    if mode == "websocket":  # over SPDY, kubectl takes a connection that breaks for an end
        assert all(client.returncode != 0 for client in running)
    until(lambda: children(keeper) == containers)
    node.start()
    assert children(keeper) == containers
    talk.nothing_runs()
    # The node was Ready all the time for who looked: nothing announces that its new port is known.
    until(lambda: talk.exec("main", "actor", "print", "again").stdout == b"again\n")
    with talk.start("attach", "-i", talk.pod, "-c", "hearing") as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"after\n")
        client.stdin.flush()
        assert any(b"heard after" in line for line in client.stdout)
        client.kill()
    restarts = talk.kubectl(
        "get", "pod", talk.pod, "-o", "jsonpath={.status.containerStatuses[*].restartCount}"
    )
    assert set(restarts.split()) == {"0"}


def test_nothing_is_left_of_streams_that_ended(own) -> None:
    talk, node = own
    keeper = launcher(node.directory)

    def left() -> tuple[int, set[int], int]:
        descriptors = len(list(Path(f"/proc/{node.pid}/fd").iterdir()))
        return descriptors, children(keeper), len(talk.instances())

    def use() -> None:
        assert talk.exec("main", "actor", "print", "x").returncode == 0
        assert talk.exec("main", "cat", stdin=b"x" * 100_000).returncode == 0
        assert talk.exec("main", "no-such").returncode == 1
        client = talk.start("exec", talk.pod, "-c", "main", "--", "actor", "print", "begun", "sleep", "600")
        assert client.stdout is not None
        assert client.stdout.readline() == b"begun\n"
        client.kill()
        client.communicate()
        talk.nothing_runs()

    use()  # connections to the API server, the toolbox's compiled code
    before = left()
    for _ in range(5):
        use()
    until(lambda: left()[1:] == before[1:] and left()[0] <= before[0])
