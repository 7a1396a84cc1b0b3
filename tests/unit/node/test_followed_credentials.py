"""Credentials that are exchanged while a client uses them, on a real file system."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from authority import Authority
from serving import serving
from waiting import until

from vkubelet.api.client import ApiClient, ApiError
from vkubelet.node.followed_credentials import follow_credentials

Running = Callable[[Any], asyncio.Task[Any]]


def write(path: Path, server: str, user: dict[str, str], **cluster: str) -> None:
    document = {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    new = path.with_suffix(".new")
    new.write_text(json.dumps(document))
    new.rename(path)


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        good = request.headers.get("Authorization") == "Bearer new"
        return web.json_response({"kind": "Status"}, status=200 if good else 401)

    async with serving(handle) as url:
        yield url


async def test_another_token_in_the_kubeconfig_is_used(server: str, tmp_path: Path, running: Running) -> None:
    path = tmp_path / "kubeconfig"
    write(path, server, {"token": "old"})
    client = await ApiClient.from_kubeconfig(path)
    running(follow_credentials(client))
    with pytest.raises(ApiError, match="401"):
        await client.get("/")
    write(path, server, {"token": "new"})
    async with asyncio.timeout(30):
        while True:
            try:
                await client.get("/")
                break
            except ApiError:
                await asyncio.sleep(0.01)
    await client.close()


async def test_files_that_only_the_second_kubeconfig_names_are_followed(
    server: str, tmp_path: Path, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def told(text: str) -> int:
        return sum(text in message for message in caplog.messages)

    authority, path = Authority(tmp_path, "ca"), tmp_path / "kubeconfig"
    pair = tmp_path / "node.crt", tmp_path / "node.key"
    write(path, server, {"token": "old"})
    client = await ApiClient.from_kubeconfig(path)
    running(follow_credentials(client))
    for file, issued in zip(pair, authority.issue("node"), strict=True):
        file.write_bytes(issued.read_bytes())
    server = server.replace("http", "https")  # without TLS nobody looks at certificates
    write(path, server, {"client-certificate": "node.crt", "client-key": "node.key"})
    await until(lambda: told("credentials read again") == 1)
    certificate, key = authority.issue("node")
    pair[0].write_bytes(certificate.read_bytes())
    await until(lambda: told("credentials not read again: ") == 1)
    assert told("certificate or key unusable") == 1, "half of the pair is another"
    pair[1].write_bytes(key.read_bytes())
    await until(lambda: told("credentials read again") == 2)
    await client.close()
