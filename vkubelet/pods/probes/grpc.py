"""The gRPC health check, `grpc.health.v1.Health/Check`, as a probe.

It exists because gRPC needs a library, which takes ten megabytes of memory: the first such probe imports it,
and a node without one never does. It must not know who asks. Every failure is a result, with the texts of
pkg/probe/grpc.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from vkubelet.pods.backoff import go_duration
from vkubelet.pods.probes.connection import join
from vkubelet.pods.probes.http_request import VERSION
from vkubelet.pods.probes.outcome import Outcome, Result
from vkubelet.pods.text import quoted
from vkubelet.rpc.client import OPTIONS, channel, library
from vkubelet.rpc.codes import go_code
from vkubelet.rpc.messages import DecodeError, Message, decode, encode

_METHOD = "/grpc.health.v1.Health/Check"
_STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_SERVING = 1
_OPTIONS = (("grpc.primary_user_agent", f"kube-probe/{VERSION}"), *OPTIONS)


class _Request(Message):
    """HealthCheckRequest."""

    service: Annotated[str, 1] = ""


class _Response(Message):
    """HealthCheckResponse."""

    status: Annotated[int, 1] = 0


async def check(host: str, port: int, service: str, timeout: int) -> Outcome:
    """Ask the server at an address for the health of `service`; `timeout` seconds are for all of it.

    Raises OSError where it is this node that has no more sockets: that says nothing of the server.
    """
    aio = await library()
    family = "ipv6" if ":" in host else "ipv4"
    deadline = asyncio.get_running_loop().time() + timeout
    async with channel(aio, f"{family}:{join(host, port)}", _OPTIONS) as server:
        try:
            async with asyncio.timeout_at(deadline):
                await server.channel_ready()
        except TimeoutError:
            return Outcome(Result.FAILURE, unreachable(host, port, timeout))
        return await _ask(aio, server, service, timeout, deadline)


def unreachable(host: str, port: int, timeout: int) -> str:
    """What is told where no server can be connected to, which is tried for all of the time."""
    where, within = quoted(join(host, port)), go_duration(timeout)
    return f"timeout: failed to connect service {where} within {within}: context deadline exceeded"


async def _ask(aio: Any, server: Any, service: str, timeout: int, deadline: float) -> Outcome:
    call = server.unary_unary(_METHOD)
    try:
        left = deadline - asyncio.get_running_loop().time()
        answer = await call(encode(_Request(service=service)), timeout=left)
    except aio.AioRpcError as error:
        return Outcome(Result.FAILURE, _failure(error.code().name, error.details() or "", timeout))
    try:
        status = decode(answer, _Response).status
    except DecodeError as error:
        return Outcome(Result.FAILURE, _failure("INTERNAL", f"the answer cannot be read: {error}", timeout))
    if status != _SERVING:
        name = _STATUSES.get(status, str(status))
        return Outcome(Result.FAILURE, f"service unhealthy (responded with {quoted(name)})")
    return Outcome(Result.SUCCESS, "service healthy")


def _failure(code: str, details: str, timeout: int) -> str:
    if code == "UNIMPLEMENTED":
        protocol = "the grpc health protocol (grpc.health.v1.Health)"
        return f"error: this server does not implement {protocol}: {details}"
    if code == "DEADLINE_EXCEEDED":
        return f"timeout: health rpc did not complete within {go_duration(timeout)}"
    return f"error: health rpc probe failed: rpc error: code = {go_code(code)} desc = {details}"
