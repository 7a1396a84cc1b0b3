"""A gRPC server of hand-written messages on a unix socket: plugins that do as a test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from vkubelet.rpc.client import Method
from vkubelet.rpc.messages import Message, decode, encode

Handler = Callable[[Any], Awaitable[Message]]
"""Takes the request; what it raises as RefusedError is the call's failure."""


class RefusedError(Exception):
    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = grpc.StatusCode[code]


@contextlib.asynccontextmanager
async def grpc_server(socket: Path, handlers: Mapping[Method[Any, Any], Handler]) -> AsyncIterator[None]:
    """Serve these methods; afterwards the socket is gone."""
    server = grpc.aio.server()
    by_service: dict[str, dict[str, Any]] = {}
    for method, handler in handlers.items():
        _, service, name = method.path.split("/")
        by_service.setdefault(service, {})[name] = _unary(method, handler)
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(service, names) for service, names in by_service.items())
    )
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
        await asyncio.to_thread(socket.unlink, missing_ok=True)


def _unary(method: Method[Any, Any], handler: Handler) -> Any:
    async def serve(data: bytes, context: Any) -> bytes:
        try:
            return encode(await handler(decode(data, method.request)))
        except RefusedError as error:
            await context.abort(error.code, str(error))
        raise AssertionError("abort raises")

    return grpc.unary_unary_rpc_method_handler(serve)
