"""A server of a test's own, over a real socket."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from http.server import ThreadingHTTPServer

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Answer every request with `handler`; gives the server's URL, and ends with the block."""
    async with serving_routes([web.route("*", "/{path:.*}", handler)]) as url:
        yield url


@contextlib.asynccontextmanager
async def serving_routes(routes: Iterable[web.RouteDef]) -> AsyncIterator[str]:
    """Serve these routes; gives the server's URL, and ends with the block."""
    application = web.Application()
    application.router.add_routes(routes)
    # A handler learns at once that its client is gone, as those of other servers do.
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def answering(server: ThreadingHTTPServer) -> Iterator[None]:
    """Have a server of the standard library's answer, in threads, for as long as the block runs."""
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
