"""`/debug`: what the agent is doing, and the verbosity of its log, for who may use the node's proxy.

It exists because an administrator finds out more by a look than by a restart. Who may look is decided as for
all routes: a kubelet asks for nodes/proxy. It must not know what there is to tell.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from aiohttp import web

from vkubelet import logs
from vkubelet.debug import tasks
from vkubelet.debug.state import Diagnosis
from vkubelet.server.plain import NO_SNIFF, plain

_VERBOSITY_LONGEST = 64
"""Bytes of a verbosity; one has a digit or two."""


class DebugRoutes:
    """Implements RouteGroup."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        """It outlives this."""
        self._diagnosis = diagnosis

    def routes(self) -> Iterable[web.RouteDef]:
        """See RouteGroup. The kubelet's handler of flags looks at the method itself."""
        return [
            web.get("/debug/tasks", self._tasks),
            web.get("/debug/pods", self._pods),
            web.get("/debug/queues", self._queues),
            web.route("*", "/debug/flags/v", self._verbosity),
        ]

    def end(self) -> None:
        """See RouteGroup: all of these end by themselves."""

    async def _tasks(self, request: web.Request) -> web.Response:
        """As text, or with `?format=json`."""
        found, form = tasks.tasks(), request.query.get("format", "text")
        if form == "json":
            return _json(found)
        if form == "text":
            return web.Response(text=tasks.text(found), headers=NO_SNIFF)
        return plain(400, "format: expected text or json")

    async def _pods(self, _: web.Request) -> web.Response:
        return _json(self._diagnosis.pods())

    async def _queues(self, _: web.Request) -> web.Response:
        return _json(self._diagnosis.queues())

    async def _verbosity(self, request: web.Request) -> web.Response:
        """The kubelet's: the body is a number."""
        if request.method != "PUT":
            return plain(406, "unsupported http method")
        body = await request.content.read(_VERBOSITY_LONGEST + 1)
        try:
            answer = logs.set_verbosity(body.decode(errors="replace"))
        except ValueError as error:
            return plain(400, str(error))
        return plain(200, answer)


def _json(found: object) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(found), indent=2)
    return web.Response(body=body + b"\n", content_type="application/json")
