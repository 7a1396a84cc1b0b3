"""`/logs/`: the machine's own log directory, when the node is configured to show it.

It exists to hold what makes that safe: a path from a request is found first and then asked where it leads, so
that no symbolic link, whoever changes it meanwhile, leads out of the directory; and what is neither a file
nor a directory is not opened. It must not know what is in the logs. Answers are those of Go's file server,
which a kubelet uses.
"""

from __future__ import annotations

import asyncio
import functools
import html
import itertools
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from aiohttp import web

from vkubelet.server.plain import plain

Result = TypeVar("Result")

_CHUNK = 256 * 1024
_LISTED = 10_000
"""Entries of a directory that are listed."""


class NodeLogRoutes:
    """Implements RouteGroup."""

    def __init__(self, directory: Path | None) -> None:
        """`directory` is what is shown; None shows nothing, as a kubelet without enableSystemLogHandler."""
        self._directory = directory

    def routes(self) -> Iterable[web.RouteDef]:
        """See RouteGroup."""
        if self._directory is None:
            return [web.route("*", path, self._disabled) for path in ("/logs", "/logs/{path:.*}")]
        return [
            web.get("/logs", self._with_slash, allow_head=False),
            web.get("/logs/{path:.*}", self._logs, allow_head=False),
        ]

    def end(self) -> None:
        """See RouteGroup: a file ends where it ended when it was opened."""

    async def _disabled(self, _: web.Request) -> web.Response:
        return plain(405, "logs endpoint is disabled.")

    async def _with_slash(self, _: web.Request) -> web.Response:
        return web.Response(status=301, headers={"Location": "/logs/"})

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        try:
            opened = await _open(self._directory or Path("/"), path)
        except PermissionError:
            return web.Response(status=403, text="403 Forbidden\n")
        except OSError:
            return web.Response(status=404, text="404 page not found\n")
        try:
            found = os.fstat(opened.descriptor)
            if not stat.S_ISDIR(found.st_mode):
                return await _send(request, opened, found.st_size)
            if path and not path.endswith("/"):
                name = request.rel_url.raw_path.rpartition("/")[2]
                return web.Response(status=301, headers={"Location": f"{name}/"})
            return web.Response(text=await opened.call(_listing), content_type="text/html", charset="utf-8")
        finally:
            opened.close()


def open_beneath(directory: Path, path: str) -> int:
    """Open a file or directory at or below `directory`; the descriptor is the caller's. Blocks.

    Symbolic links are followed as far as they stay below. Raises OSError: FileNotFoundError also for what is
    outside, or is neither a file nor a directory.
    """
    root = os.path.realpath(directory)
    if "\0" in path:
        raise FileNotFoundError(path)
    # It is found without being opened: of a device or a pipe, not even that would be harmless.
    found = os.open(f"{root}/{path}", os.O_PATH | os.O_CLOEXEC)
    try:
        where = os.readlink(f"/proc/self/fd/{found}")  # noqa: PTH115  it is text
        mode = os.fstat(found).st_mode
        below = where == root or where.startswith(f"{root}/")
        if not below or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise FileNotFoundError(path)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)


class _Opened:
    """A descriptor that threads use, one call after another; it is closed when none of them does any more."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._running: asyncio.Future[Any] | None = None

    async def call(self, function: Callable[[int], Result]) -> Result:
        """Call in a thread; a cancellation does not wait for it."""
        running = asyncio.ensure_future(asyncio.to_thread(function, self.descriptor))
        self._running = running
        return await asyncio.shield(running)

    def close(self) -> None:
        """Close it, at once or as soon as the call under way has returned."""
        if self._running is None or self._running.done():
            os.close(self.descriptor)
            return
        self._running.add_done_callback(self._close_after)

    def _close_after(self, call: asyncio.Future[Any]) -> None:
        call.exception()  # nobody waits for it
        os.close(self.descriptor)


async def _open(directory: Path, path: str) -> _Opened:
    """`open_beneath` in a thread; what it opens after a cancellation is closed again."""
    opening = asyncio.ensure_future(asyncio.to_thread(open_beneath, directory, path))
    try:
        return _Opened(await asyncio.shield(opening))
    except asyncio.CancelledError:
        opening.add_done_callback(_close_result)
        raise


def _close_result(opening: asyncio.Future[int]) -> None:
    if opening.exception() is None:
        os.close(opening.result())


async def _send(request: web.Request, opened: _Opened, size: int) -> web.StreamResponse:
    """As much of a file as there was when it was opened; what is read next waits for the client."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    )
    response.content_length = size
    await response.prepare(request)
    while size > 0:
        data = await opened.call(functools.partial(_read, size))
        if not data:
            # It was cut meanwhile: an answer that breaks off must not look complete.
            if request.transport is not None:
                request.transport.abort()
            break
        size -= len(data)
        await response.write(data)
    return response


def _read(most: int, descriptor: int) -> bytes:
    return os.read(descriptor, min(most, _CHUNK))


def _listing(descriptor: int) -> str:
    """A directory as Go's file server lists it: names in order, a slash behind those of directories."""
    with os.scandir(descriptor) as entries:
        shown = itertools.islice(entries, _LISTED)
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in shown)
    lines = "".join(f'<a href="{_link(name)}">{html.escape(name)}</a>\n' for name in names)
    head = '<!doctype html>\n<meta name="viewport" content="width=device-width">\n'
    return f"{head}<pre>\n{lines}</pre>\n"


def _link(name: str) -> str:
    # A name with a colon in its first segment would be a URL of another kind.
    return quote(f"./{name}" if ":" in name else name, errors="surrogateescape")
