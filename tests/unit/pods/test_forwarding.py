"""Ports: only those that the pod's own processes listen on."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vkubelet.pods.forwarding import connect, listeners
from vkubelet.pods.interaction import ForwardError

LISTENER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listening = socket.create_server((sys.argv[1], 0), family=family)
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["127.0.0.1", "0.0.0.0", "::1", "::"])  # noqa: S104  as guests do
def other(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Pid and port of a process that listens."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTENER, request.param], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())


async def test_a_pods_own_listener_is_reached(other: tuple[int, int]) -> None:
    pid, port = other
    with await connect([os.getpid(), pid], port) as connection:
        assert connection.getpeername()[1] == port
        assert not connection.getblocking()


async def test_another_process_listener_is_not(other: tuple[int, int]) -> None:
    _, port = other
    with pytest.raises(ForwardError, match=f"connect to port {port} of the pod: connection refused"):
        await connect([os.getpid()], port)


async def test_a_process_that_is_gone_listens_on_nothing() -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    with pytest.raises(ForwardError, match="connection refused"):
        await connect([process.pid], 80)


def test_the_kernels_table_is_read_as_it_prints_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        inode = os.fstat(listening.fileno()).st_ino
        found = dict(listeners(Path("/proc/self/net/tcp").read_text(), port))
        assert found == {"127.0.0.1": inode}
        client = socket.create_connection(("127.0.0.1", port))
        with client:  # an established connection is no listener
            assert dict(listeners(Path("/proc/self/net/tcp").read_text(), port)) == {"127.0.0.1": inode}
