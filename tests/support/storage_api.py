"""An API server with what drivers' volumes need of one: nodes, CSINodes, CSIDrivers, attachments, tokens."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from serving import serving

STORAGE = "/apis/storage.k8s.io/v1"
NODE = "/api/v1/nodes/n"
CSI_NODE = f"{STORAGE}/csinodes/n"


class StorageApi:
    """Objects by their paths; `failures` are answered once each, in order, instead of what is asked."""

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.failures: list[int] = []
        self._changed = asyncio.Event()
        self.put(NODE)

    def put(self, path: str, **fields: Any) -> dict[str, Any]:
        namespace = path.split("/")[4] if "/namespaces/" in path else ""
        meta = {"name": path.rpartition("/")[2], "namespace": namespace, "uid": f"uid-{len(self.objects)}"}
        self.objects[path] = {"metadata": meta, **fields}
        return self.objects[path]

    def driver(self, name: str, **spec: Any) -> None:
        self.put(f"{STORAGE}/csidrivers/{name}", spec=spec)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removesuffix("/status")
        self.asked.append(f"{request.method} {path}")
        if self.failures:
            return web.json_response({"message": "not now"}, status=self.failures.pop(0))
        if request.query.get("watch"):
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.sleep(3600)
            return response
        answer = self._answer(request.method, path, await request.text())
        self._changed.set()
        return answer

    def _answer(self, method: str, path: str, body: str) -> web.Response:
        document = json.loads(body) if body else {}
        if path == f"{STORAGE}/csidrivers":
            items = [found for key, found in self.objects.items() if key.startswith(f"{path}/")]
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})
        if method == "POST" and path.endswith("/token"):
            spec = document["spec"]
            status = {"token": f"for {spec['audiences']}", "expirationTimestamp": "2100-01-01T00:00:00Z"}
            return web.json_response({"spec": spec, "status": status})
        if method == "POST":
            path = f"{path}/{document['metadata']['name']}"
        elif path not in self.objects:
            *_, kind, name = path.split("/")
            return web.json_response({"message": f'{kind} "{name}" not found'}, status=404)
        if method == "DELETE":
            return web.json_response(self.objects.pop(path))
        if method in ("POST", "PUT"):
            self.objects[path] = document
        if method == "PATCH":
            self._merge(self.objects[path]["metadata"], document["metadata"])
        return web.json_response(self.objects[path])

    def _merge(self, meta: dict[str, Any], patch: dict[str, Any]) -> None:
        for field, changes in patch.items():
            merged = {**meta.get(field, {}), **changes}
            meta[field] = {key: value for key, value in merged.items() if value is not None}


@contextlib.asynccontextmanager
async def storage_api() -> AsyncIterator[StorageApi]:
    made = StorageApi()
    async with serving(made.handle) as made.url:
        yield made
