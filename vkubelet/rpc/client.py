"""Calls to a plugin that listens on a unix socket of this machine.

It exists because gRPC's library takes ten megabytes of memory: the first call imports it, and an agent that
meets no plugin never does. Each call has a connection of its own, as a kubelet's has, so that a plugin that
was started anew is found at once. It must not know what is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from vkubelet.rpc.codes import go_code
from vkubelet.rpc.messages import DecodeError, Message, decode, encode

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    # A connection is not kept for the next one who asks, nor is the memory of its failure.
    ("grpc.use_local_subchannel_pool", 1),
)
_FILES = 16
"""More than the library was seen to open for its first channel (7)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Method(Generic[Request, Response]):
    """One method of a service; `path` is `/PACKAGE.SERVICE/METHOD`."""

    path: str
    request: type[Request]
    response: type[Response]


class RpcError(Exception):
    """A call that failed; the text is Go's. `code` is as Go writes it: `NotFound`, `DeadlineExceeded`."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"rpc error: code = {code} desc = {details}")
        self.code = code
        self.details = details


async def library() -> Any:
    """gRPC's interface for asyncio, imported by the first who asks."""
    # Else it tells on standard error, in a form of its own, what its callers are told by exceptions.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    return await asyncio.to_thread(importlib.import_module, "grpc.aio")


def see_that_files_are_left() -> None:
    """Raises OSError where this process can open few more: the library aborts it where there are none."""
    with contextlib.ExitStack() as taken:
        for _ in range(_FILES):
            taken.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def channel(aio: Any, target: str, options: Sequence[tuple[str, int | str]] = OPTIONS) -> Any:
    """A channel of the library's to a server. Raises OSError where too few files are left for it."""
    see_that_files_are_left()
    return aio.insecure_channel(target, options=options)


def plugin_channel(aio: Any, socket: Path) -> Any:
    """One to a plugin. Raises RpcError."""
    try:
        return channel(aio, f"unix:{socket}")
    except OSError as error:
        raise RpcError("ResourceExhausted", os.strerror(error.errno or 0)) from error


async def call(
    socket: Path, method: Method[Request, Response], request: Request, *, timeout: float
) -> Response:
    """Call once; `timeout` seconds are for all of it. Raises RpcError."""
    aio = await library()
    async with plugin_channel(aio, socket) as plugin:
        ask = plugin.unary_unary(method.path)
        try:
            answer = await ask(encode(request), timeout=timeout)
        except aio.AioRpcError as error:
            raise rpc_error(error.code().name, error.details() or "") from error
    # By ourselves: the library would make None of what cannot be read.
    try:
        return decode(answer, method.response)
    except DecodeError as error:
        raise RpcError("Internal", f"the answer cannot be read: {error}") from error


def rpc_error(code: str, details: str) -> RpcError:
    """The failure of a call as gRPC's library tells it."""
    if code == "DEADLINE_EXCEEDED" and details == "Deadline Exceeded":
        details = "context deadline exceeded"
    return RpcError(go_code(code), details)
