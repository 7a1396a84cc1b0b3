"""An API server that serves named objects as the real one does: get, list and watch by metadata.name.

Its content is changed by the test (`put`, `delete`), and so is what it answers with instead (`fail`).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from serving import serving

Key = tuple[str, str, str]


class ObjectServer:
    """Objects by (kind, namespace, name). `asked` notes requests: `get`, `list` or `watch` and the name."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.objects: dict[Key, dict[str, Any]] = {}
        self.failure: tuple[int, str] | None = None
        self._version = 100
        self._watches: dict[Key, set[asyncio.Queue[dict[str, Any] | None]]] = {}
        self._changed = asyncio.Condition()

    def put(self, kind: str, name: str, namespace: str = "default", **fields: Any) -> dict[str, Any]:
        """Create or replace an object, and tell whoever watches it."""
        key = (kind, namespace, name)
        self._version += 1
        known = self.objects.get(key)
        uid = known["metadata"]["uid"] if known else f"uid-{self._version}"
        metadata = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(self._version)}
        self.objects[key] = {"metadata": metadata, **fields}
        self._tell(key, "MODIFIED" if known else "ADDED", self.objects[key])
        return self.objects[key]

    def delete(self, kind: str, name: str, namespace: str = "default") -> None:
        key = (kind, namespace, name)
        self._version += 1
        gone = copy.deepcopy(self.objects.pop(key))
        gone["metadata"]["resourceVersion"] = str(self._version)
        self._tell(key, "DELETED", gone)

    def expire(self) -> None:
        """End every watch as a compacted history does; what has changed since the last event is not told."""
        gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
        for queues in self._watches.values():
            for queue in queues:
                queue.put_nowait({"type": "ERROR", "object": gone})
                queue.put_nowait(None)

    def silently(self) -> contextlib.AbstractContextManager[None]:
        """Changes made within are told to no watch."""

        @contextlib.contextmanager
        def quiet() -> Any:
            watches, self._watches = self._watches, {}
            try:
                yield
            finally:
                self._watches = watches

        return quiet()

    async def until(self, *asked: str) -> None:
        """Wait until exactly these requests have been made since the start, in any order."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.asked) >= len(asked))
        assert sorted(self.asked) == sorted(asked)

    def watching(self, kind: str, name: str, namespace: str = "default") -> int:
        """How many watches there are of the object."""
        return len(self._watches.get((kind, namespace, name), ()))

    def _tell(self, key: Key, type_: str, item: dict[str, Any]) -> None:
        for queue in self._watches.get(key, ()):
            queue.put_nowait({"type": type_, "object": copy.deepcopy(item)})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        _, _, _, _, namespace, kind, *rest = request.path.split("/")
        if rest:
            return await self._get((kind, namespace, rest[0]))
        name = request.query["fieldSelector"].removeprefix("metadata.name=")
        if request.query.get("watch"):
            return await self._watch((kind, namespace, name), request)
        return await self._list((kind, namespace, name))

    async def _note(self, text: str) -> web.Response | None:
        self.asked.append(text)
        async with self._changed:
            self._changed.notify_all()
        if self.failure is None:
            return None
        code, reason = self.failure
        return web.json_response({"code": code, "reason": reason, "message": f"said {reason}"}, status=code)

    async def _get(self, key: Key) -> web.StreamResponse:
        failure = await self._note(f"get {key[2]}")
        if failure is not None:
            return failure
        if key not in self.objects:
            missing = {"code": 404, "reason": "NotFound", "message": f'{key[0]} "{key[2]}" not found'}
            return web.json_response(missing, status=404)
        return web.json_response(self.objects[key])

    async def _list(self, key: Key) -> web.StreamResponse:
        items = [self.objects[key]] if key in self.objects else []
        answer = {"metadata": {"resourceVersion": str(self._version)}, "items": items}
        return await self._note(f"list {key[2]}") or web.json_response(answer)

    async def _watch(self, key: Key, request: web.Request) -> web.StreamResponse:
        failure = await self._note(f"watch {key[2]}")
        if failure is not None:
            return failure
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._watches.setdefault(key, set()).add(queue)
        async with self._changed:
            self._changed.notify_all()
        known = self.objects.get(key)
        if known and int(known["metadata"]["resourceVersion"]) > int(request.query["resourceVersion"]):
            queue.put_nowait({"type": "MODIFIED", "object": known})
        try:
            response = web.StreamResponse()
            await response.prepare(request)
            while (event := await queue.get()) is not None:
                await response.write(json.dumps(event).encode() + b"\n")
            return response
        finally:
            self._watches[key].discard(queue)
            async with self._changed:
                self._changed.notify_all()

    async def watched(self, kind: str, name: str, namespace: str = "default") -> None:
        """Wait until somebody watches the object."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: self.watching(kind, name, namespace))

    async def unwatched(self, kind: str, name: str, namespace: str = "default") -> None:
        """Wait until nobody watches the object any more."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: not self.watching(kind, name, namespace))


@contextlib.asynccontextmanager
async def object_server() -> AsyncIterator[ObjectServer]:
    server = ObjectServer()
    async with serving(server.handle) as server.url:
        yield server
        for queues in server._watches.values():
            for queue in queues:
                queue.put_nowait(None)
