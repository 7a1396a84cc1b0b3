"""`/pods` and `/runningpods/`: the pods that this node should run, and those that it does.

It exists because this node reads only a part of an object's fields: whole objects come from the API server,
and what this node knows of them only while that cannot be asked. It must not know how pods are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.pods.inventory import Inventory, PodEntry

logger = logging.getLogger(__name__)

_TIMEOUT = 5.0


class PodListRoutes:
    """Implements RouteGroup."""

    def __init__(self, client: ApiClient | None, inventory: Inventory, node: str) -> None:
        """`client` may list the pods of the node named `node`; None where there is no API server."""
        self._client = client
        self._inventory = inventory
        self._query = {"fieldSelector": f"spec.nodeName={node}", "resourceVersion": "0"}

    def routes(self) -> Iterable[web.RouteDef]:
        """See RouteGroup. A kubelet's router takes no notice of a slash at the end."""
        return [
            web.get(path, handler, allow_head=False)
            for base, handler in (("/pods", self._pods), ("/runningpods", self._running))
            for path in (base, f"{base}/")
        ]

    def end(self) -> None:
        """See RouteGroup: both of them end by themselves."""

    async def _pods(self, _: web.Request) -> web.Response:
        body = None
        if self._client is not None:
            try:
                body = await self._client.get("/api/v1/pods", query=self._query, timeout=_TIMEOUT)
            except (ApiError, ApiUnavailableError) as error:
                logger.info("pods are listed as far as this node knows them: %s", error)
        if body is None:
            body = pod_list([entry.pod for entry in self._inventory.pods()])
        return web.Response(body=body, content_type="application/json")

    async def _running(self, _: web.Request) -> web.Response:
        running = [found for entry in self._inventory.pods() if (found := running_pod(entry)) is not None]
        return web.Response(body=pod_list(running), content_type="application/json")


def pod_list(items: Iterable[object]) -> bytes:
    """A v1 PodList."""
    return msgspec.json.encode({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(items)})


def running_pod(entry: PodEntry) -> dict[str, Any] | None:
    """A pod as its running containers tell of it, as a kubelet's ToAPIPod does; None without any."""
    containers = [
        {"name": container.spec.name, "image": container.image_id or container.spec.image, "resources": {}}
        for container in entry.containers
        if container.running
    ]
    if not containers:
        return None
    meta = entry.pod.metadata
    return {
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "spec": {"containers": containers},
        "status": {},
    }
