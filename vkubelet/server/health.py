"""`/healthz/NAME`: the single checks that a kubelet's `/healthz` is made of, each under its own name.

It exists beside the whole check, which is KubeletServer's. It must not know what is healthy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiohttp import web

from vkubelet.server.plain import NO_SNIFF, plain


class HealthRoutes:
    """Implements RouteGroup."""

    def __init__(self, healthy: Callable[[], str | None]) -> None:
        """`healthy` says what is wrong with the node agent, or None."""
        self._healthy = healthy

    def routes(self) -> Iterable[web.RouteDef]:
        """See RouteGroup. A log that blocked would block the event loop, and so the answer."""
        return [
            web.route("*", "/healthz/ping", self._answers),
            web.route("*", "/healthz/log", self._answers),
            web.route("*", "/healthz/syncloop", self._syncloop),
        ]

    def end(self) -> None:
        """See RouteGroup: all of these end by themselves."""

    async def _answers(self, _: web.Request) -> web.Response:
        return web.Response(text="ok", headers=NO_SNIFF)

    async def _syncloop(self, request: web.Request) -> web.Response:
        reason = self._healthy()
        if reason is None:
            return await self._answers(request)
        return plain(500, f"internal server error: {reason}")
