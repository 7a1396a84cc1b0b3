"""Counts the requests to the kubelet API, as a kubelet counts its own.

It exists to keep paths and methods, which are the clients' choice, from becoming labels without end: what is
no route of a kubelet's counts as `other`. It must not know what the routes do.
"""

from __future__ import annotations

import time

from aiohttp import web
from aiohttp.typedefs import Handler

from vkubelet import telemetry

_METHODS = frozenset({"OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"})
_PATHS = frozenset(
    {
        "attach",
        "checkpoint",
        "configz",
        "containerLogs",
        "debug",
        "exec",
        "healthz",
        "logs",
        "metrics",
        "metrics/cadvisor",
        "metrics/probes",
        "metrics/resource",
        "pods",
        "portForward",
        "run",
        "runningpods",
        "stats",
    }
)
_LONG_RUNNING = frozenset({"exec", "attach"})


@web.middleware
async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count a request and the time that its answer takes, whoever asks and whatever comes of it."""
    method = request.method if request.method in _METHODS else "other"
    path = path_bucket(request.path)
    labels = (method, path, "readwrite", "true" if path in _LONG_RUNNING else "false")
    telemetry.HTTP_REQUESTS.inc(*labels)
    began = time.monotonic()
    try:
        return await handler(request)
    finally:
        telemetry.HTTP_DURATION.observe(time.monotonic() - began, *labels)


def path_bucket(path: str) -> str:
    """The label for a path: its first segment, with the second one below `metrics`."""
    first, *rest = path.removeprefix("/").split("/")
    bucket = f"{first}/{rest[0]}" if first == "metrics" and rest else first
    return bucket if bucket in _PATHS else "other"
