"""An API server that keeps what it is given, over real sockets; any request can be made to fail."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from serving import serving

from vkubelet.api.client import ApiClient
from vkubelet.api.credentials import Credentials
from vkubelet.config import Config


class Store:
    """Objects by path, with resource versions and conflicts; `faults` are answered first, in order."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.faults: list[int] = []
        self.token: str | None = None
        """Who has another Authorization is refused, unless it is None."""
        self.version = 0
        self.url = ""
        self.sign: Callable[[bytes], bytes] | None = None
        """Makes a certificate (PEM) of a request (PEM), at once; a request waits while it is None."""

    def put(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        document.setdefault("metadata", {})["resourceVersion"] = str(self.version)
        document["metadata"].setdefault("uid", f"uid-{self.version}")
        self.objects[path] = document
        return document

    def of(self, method: str) -> list[Any]:
        return [body for verb, _, body in self.requests if verb == method]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path, raw = request.path, await request.read()
        body = json.loads(raw) if raw else None
        self.requests.append((request.method, path, body))
        if self.token is not None and request.headers.get("Authorization") != self.token:
            return self._status(401, "Unauthorized")
        if self.faults:
            return self._status(self.faults.pop(0), "Fault")
        if request.method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                return self._status(409, "AlreadyExists")
            if self.sign is not None and body["kind"] == "CertificateSigningRequest":
                certificate = self.sign(base64.b64decode(body["spec"]["request"]))
                body["status"] = {"certificate": base64.b64encode(certificate).decode()}
            return web.json_response(self.put(path, body))
        if path.removesuffix("/status") not in self.objects:
            return self._status(404, "NotFound")
        path = path.removesuffix("/status")
        found = self.objects[path]
        if request.method == "GET":
            return web.json_response(found)
        wanted = body.get("metadata", {}).get("resourceVersion", found["metadata"]["resourceVersion"])
        if wanted != found["metadata"]["resourceVersion"]:
            return self._status(409, "Conflict")
        if request.method == "PUT":
            metadata = {**found["metadata"], **body["metadata"]}
            return web.json_response(self.put(path, {**body, "metadata": metadata}))
        merged = json.loads(json.dumps(found))
        _merge(merged, body)
        return web.json_response(self.put(path, merged))

    @staticmethod
    def _status(code: int, reason: str) -> web.Response:
        document = {"kind": "Status", "code": code, "reason": reason, "message": reason.lower()}
        return web.json_response(document, status=code)


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """A strategic merge as far as nodes need it: conditions merge by type, other lists replace."""
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        elif key == "conditions":
            by_type = {entry["type"]: entry for entry in [*(target.get(key) or ()), *value]}
            target[key] = list(by_type.values())
        elif value is None:
            target.pop(key, None)
        elif isinstance(value, list):
            target[key] = [entry for entry in value if entry != {"$patch": "replace"}]
        else:
            target[key] = value


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    kept = Store()
    async with serving(kept.handle) as kept.url:
        yield kept


@pytest.fixture
async def client(store: Store, tmp_path: Path) -> AsyncIterator[ApiClient]:
    client = ApiClient(Credentials(store.url), tmp_path / "kubeconfig")
    yield client
    await client.close()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(node_name="wasm-1", root_dir=str(tmp_path / "root"))


@pytest.fixture
async def running() -> AsyncIterator[Callable[[Any], asyncio.Task[Any]]]:
    tasks: list[asyncio.Task[Any]] = []

    def start(coroutine: Any) -> asyncio.Task[Any]:
        tasks.append(asyncio.create_task(coroutine))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
