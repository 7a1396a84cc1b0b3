"""An API server that misbehaves on demand, over real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from serving import Handler, serving

from vkubelet.api.client import ApiClient
from vkubelet.api.credentials import Credentials


class Script:
    """Answers requests with `handlers`, one after the other; the last one stays."""

    def __init__(self) -> None:
        self.handlers: list[Handler] = []
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.stuck = asyncio.Event()
        self.arrived = asyncio.Condition()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        async with self.arrived:
            self.arrived.notify_all()
        handler = self.handlers[0]
        if len(self.handlers) > 1:
            self.handlers.pop(0)
        return await handler(request)

    async def asked(self, count: int) -> list[web.Request]:
        """The requests so far, as soon as there are `count` of them."""
        async with asyncio.timeout(10), self.arrived:
            await self.arrived.wait_for(lambda: len(self.bodies) >= count)
        return list(self.requests)

    def then(self, *handlers: Handler) -> None:
        self.handlers += handlers

    @staticmethod
    def json(document: object, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.json_response(document, status=status, headers=headers)

        return answer

    def status(self, code: int, reason: str = "", headers: dict[str, str] | None = None) -> Handler:
        body = {"kind": "Status", "code": code, "reason": reason, "message": f"said {reason}"}
        return self.json(body, code, headers)

    def pods(self, version: str, *pods: dict[str, Any], more: str = "") -> Handler:
        return self.json({"metadata": {"resourceVersion": version, "continue": more}, "items": list(pods)})

    def watch(self, *events: object, end: str = "hang", cut: bytes = b"") -> Handler:
        """A watch that sends `events` and `cut`, and then ends: close, reset or hang."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for event in events:
                line = event if isinstance(event, bytes) else json.dumps(event).encode()
                await response.write(line + b"\n")
            if cut:
                await response.write(cut)
            if end == "hang":
                await self.stuck.wait()
            if end == "reset":
                assert request.transport is not None
                request.transport.abort()
            return response

        return answer

    async def hang(self, request: web.Request) -> web.StreamResponse:
        await self.stuck.wait()
        return web.Response()

    async def reset(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


def make_pod(name: str, version: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": version}
    return {"metadata": metadata, "spec": {"containers": [{"name": "main"}], **spec}}


@pytest.fixture
def pod() -> Callable[..., dict[str, Any]]:
    return make_pod


@pytest.fixture
async def api() -> AsyncIterator[Script]:
    script = Script()
    async with serving(script.handle) as script.url:
        yield script
        script.stuck.set()


def write_kubeconfig(path: Path, server: str, user: dict[str, Any], cluster: dict[str, Any]) -> Path:
    document = {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Callable[..., Path]:
    def write(server: str, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
        return write_kubeconfig(tmp_path / "kubeconfig", server, user or {}, cluster)

    return write


@pytest.fixture
async def client(api: Script, tmp_path: Path) -> AsyncIterator[ApiClient]:
    client = ApiClient(Credentials(api.url, authorization="Bearer secret"), tmp_path / "kubeconfig")
    yield client
    await client.close()
