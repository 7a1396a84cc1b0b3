"""The kubelet API on a socket of the file system, which only its owner can open."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from vkubelet.server.app import KubeletServer, ListenError
from vkubelet.server.auth import OwnersDoor


async def test_the_owner_is_answered_and_nothing_is_left(tmp_path):
    path = tmp_path / "kubelet.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))  # as of an agent that was killed
    server = KubeletServer(address=path, tls=None, healthy=lambda: None, auth=OwnersDoor())
    await server.start()
    try:
        assert path.stat().st_mode & 0o777 == 0o600
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            for route, status in (("/healthz", 200), ("/nothing", 404), ("/a/../healthz", 200)):
                async with session.get(f"http://node{route}") as answer:
                    assert answer.status == status
        assert server.connections <= 1
    finally:
        await server.close()
    assert not path.exists()


async def test_a_path_that_cannot_be_is_told_in_one_line(tmp_path):
    for path in (tmp_path / "missing" / "kubelet.sock", tmp_path / ("x" * 200)):
        server = KubeletServer(address=path, tls=None, healthy=lambda: None, auth=OwnersDoor())
        with pytest.raises(ListenError, match=r"^cannot serve the kubelet API on "):
            await server.start()
