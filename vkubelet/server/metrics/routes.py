"""The routes of statistics and metrics.

It exists to turn a request into a look, what was seen into an answer, and a failure into what a kubelet tells
of one. Looking waits and rendering takes its time, so that both leave the event loop to others. It must not
know what the answers say.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from aiohttp import web

from providers.base import ProviderError
from vkubelet import telemetry
from vkubelet.meters import Family
from vkubelet.pods.inventory import Inventory
from vkubelet.server.metrics.cadvisor import cadvisor_families
from vkubelet.server.metrics.exposition import accepts_gzip, negotiate, render
from vkubelet.server.metrics.kubelet import inventory_families
from vkubelet.server.metrics.logs import LogMeter
from vkubelet.server.metrics.process import process_families, start_time_family
from vkubelet.server.metrics.resource import resource_families
from vkubelet.server.metrics.snapshot import Observer, Snapshot
from vkubelet.server.metrics.summary import summary

logger = logging.getLogger(__name__)

_GZIP_LEVEL = 1
_COMPRESSED_FROM = 1024


class MetricsRoutes:
    """Implements RouteGroup."""

    def __init__(
        self,
        observer: Observer,
        inventory: Inventory,
        *,
        node: str,
        pod_logs_dir: Path,
        images_size: Callable[[], int],
    ) -> None:
        """`node` is the node's name, `images_size` the bytes that its images take."""
        self._observer = observer
        self._inventory = inventory
        self._node = node
        self._logs = LogMeter(pod_logs_dir)
        self._images_size = images_size
        self._started_at = time.time()

    def routes(self) -> Iterable[web.RouteDef]:
        """See RouteGroup. Prometheus' handlers look at no method."""
        return [
            web.get("/stats/summary", self._summary, allow_head=False),
            web.post("/stats/summary", self._summary),
            web.route("*", "/metrics", self._kubelet),
            web.route("*", "/metrics/cadvisor", self._cadvisor),
            web.route("*", "/metrics/probes", self._probes),
            web.route("*", "/metrics/resource", self._resource),
        ]

    def end(self) -> None:
        """See RouteGroup: all of these end by themselves."""

    async def _summary(self, request: web.Request) -> web.Response:
        form = request.query.getall("only_cpu_and_memory", [])
        try:
            snapshot = await self._observer.snapshot()
            logs = None if form == ["true"] else await asyncio.to_thread(self._logs.sizes, snapshot.inventory)
        except (OSError, ProviderError) as error:
            logger.error("no statistics: %s", error)  # noqa: TRY400  the text says it all
            return web.Response(status=500, text=f"Internal Error: {error}")
        images_size = self._images_size()

        def encoded() -> bytes:
            return msgspec.json.encode(summary(snapshot, self._node, self._started_at, logs, images_size))

        return web.Response(body=await asyncio.to_thread(encoded), content_type="application/json")

    async def _kubelet(self, request: web.Request) -> web.Response:
        entries = self._inventory.pods()

        def read() -> list[Family]:
            return [*inventory_families(self._node, entries, self._logs.sizes(entries)), *process_families()]

        counted = telemetry.families()
        families = [*counted, *await asyncio.to_thread(read)]
        return await _exposition(request, sorted(families, key=lambda family: family.name))

    async def _cadvisor(self, request: web.Request) -> web.Response:
        return await self._observed(request, cadvisor_families)

    async def _resource(self, request: web.Request) -> web.Response:
        return await self._observed(request, resource_families)

    async def _probes(self, request: web.Request) -> web.Response:
        families = [await asyncio.to_thread(start_time_family), *telemetry.probe_families()]
        return await _exposition(request, sorted(families, key=lambda family: family.name))

    async def _observed(
        self, request: web.Request, families: Callable[[Snapshot | None], list[Family]]
    ) -> web.Response:
        try:
            snapshot = await self._observer.snapshot()
        except (OSError, ProviderError) as error:
            logger.error("no metrics: %s", error)  # noqa: TRY400  the text says it all
            snapshot = None
        return await _exposition(request, lambda: families(snapshot))


async def _exposition(
    request: web.Request, families: Iterable[Family] | Callable[[], Iterable[Family]]
) -> web.Response:
    form, content_type = negotiate(request.headers.get("Accept", ""))
    compressed = accepts_gzip(request.headers.get("Accept-Encoding", ""))

    def body() -> tuple[bytes, bool]:
        text = render(families() if callable(families) else families, form)
        if compressed and len(text) >= _COMPRESSED_FROM:
            return gzip.compress(text, _GZIP_LEVEL), True
        return text, False

    data, packed = await asyncio.to_thread(body)
    headers = {"Content-Type": content_type}
    if packed:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=data, headers=headers)
