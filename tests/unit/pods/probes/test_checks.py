"""What each kind of probe comes to, against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import grpc.aio
import msgspec
import pytest
from exhausted import no_files
from probed import answers, full, serving

from providers.base import ContainerState
from vkubelet.api.containers import Probe
from vkubelet.api.objects import Pod
from vkubelet.pods.commands import Finished
from vkubelet.pods.interaction import CommandError
from vkubelet.pods.probes.checks import Check, Checks
from vkubelet.pods.probes.outcome import Outcome, ProbeError, Result
from vkubelet.pods.running import RunningContainer

HOST = "127.0.0.1"
FINISHED = Finished(0, b"", b"")


class Commands:
    """Runs nothing: gives what the test says."""

    def __init__(self, result: Finished | Exception = FINISHED) -> None:
        self.result = result
        self.asked: list[tuple[tuple[str, ...], float | None]] = []

    async def run(self, running: RunningContainer, words: tuple[str, ...], timeout: float | None) -> Finished:
        self.asked.append((words, timeout))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class Kept:
    """Commands whose process is kept, which are none: takes note of how long."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.idle: list[float] = []

    def command(self, running: RunningContainer, words: tuple[str, ...], idle: float) -> Any:
        self.idle.append(idle)
        return SimpleNamespace(run=functools.partial(self.commands.run, running, words))


def check(
    commands: Commands | None = None, kept: Kept | None = None, network: bool = True, **probe: Any
) -> Check:
    container = {
        "name": "c",
        "ports": [{"name": "web", "containerPort": 1}],
        "env": [{"name": "A", "value": "1"}],
    }
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"hostNetwork": network, "containers": [container]},
    }
    pod = msgspec.convert(document, Pod)
    (spec,) = pod.spec.containers or ()
    running = RunningContainer(spec, ContainerState("id", {}, Path("/"), 1, 0), 0, asyncio.Event(), Path)
    made = msgspec.convert({"timeoutSeconds": 1, **probe}, Probe)
    checks = Checks(cast("Any", commands or Commands()), cast("Any", kept), HOST)
    return checks.prepare(pod, spec, running, made)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Finished(0, b"out", b"err"), Outcome(Result.SUCCESS, "outerr")),
        (Finished(3, b"", b"\xff"), Outcome(Result.FAILURE, "\ufffd")),
        (TimeoutError(), Outcome(Result.FAILURE, 'command timed out: "cat $(B) 1" timed out after 1m30s')),
    ],
)
async def test_a_command(result: Finished | Exception, expected: Outcome) -> None:
    commands = Commands(result)
    made = check(commands, exec={"command": ["cat", "$(B)", "$(A)"]}, timeoutSeconds=90)
    assert await made() == expected
    assert commands.asked == [(("cat", "$(B)", "1"), 90)]


@pytest.mark.parametrize(("period", "idle"), [(1, [3]), (5, [11]), (6, []), (10, [])])
async def test_a_command_that_is_run_every_few_seconds_keeps_its_process(
    period: int, idle: list[float]
) -> None:
    kept = Kept(Commands())
    made = check(kept.commands if idle else Commands(), kept, exec={"command": ["a"]}, periodSeconds=period)
    assert (await made()).result is Result.SUCCESS
    assert kept.idle == idle
    assert kept.commands.asked == [(("a",), 1)] * len(idle)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ({"exec": {"command": ["x"]}}, "not found"),
        ({"httpGet": {"port": "other"}}, 'port "other" not found'),
        ({"tcpSocket": {"port": 0}}, "invalid port number: 0"),
        ({}, "missing probe handler for p_ns:c"),
    ],
)
async def test_what_cannot_be_made(probe: dict[str, Any], message: str) -> None:
    with pytest.raises(ProbeError, match=message) as caught:
        await check(Commands(CommandError("not found")), **probe)()
    assert caught.value.result is Result.UNKNOWN


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("200 OK", Outcome(Result.SUCCESS)),
        ("299 x", Outcome(Result.SUCCESS)),
        (
            "302 Found\r\nLocation: http://elsewhere/",
            Outcome(Result.WARNING, "Probe terminated redirects, Response body: ab"),
        ),
        ("399 x", Outcome(Result.WARNING, "Probe terminated redirects, Response body: ab")),
        ("400 x", Outcome(Result.FAILURE, "HTTP probe failed with statuscode: 400")),
        ("500 x", Outcome(Result.FAILURE, "HTTP probe failed with statuscode: 500")),
        ("101 x", Outcome(Result.FAILURE, "HTTP probe failed with statuscode: 101")),
    ],
)
async def test_an_answer(status: str, expected: Outcome) -> None:
    async with serving(answers(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nab".encode())) as server:
        assert await check(httpGet={"port": server.port, "path": "/"})() == expected


async def test_a_body_that_breaks_off_is_no_result() -> None:
    async with serving(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")) as server:
        with pytest.raises(ProbeError, match="unexpected EOF") as caught:
            await check(httpGet={"port": server.port, "path": "/"})()
    assert caught.value.result is Result.FAILURE


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ({"httpGet": {"port": "web", "path": "/x"}}, 'Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: '),
        ({"tcpSocket": {"port": "web"}}, "dial tcp 127.0.0.1:1: "),
    ],
)
@pytest.mark.parametrize("network", [True, False])
async def test_nobody_listens(network: bool, probe: dict[str, Any], message: str) -> None:
    outcome = await check(network=network, **probe)()
    assert outcome == Outcome(Result.FAILURE, f"{message}connect: connection refused")


async def test_a_guest_without_network_is_not_taken_for_whoever_has_its_port() -> None:
    async with serving(answers(b"HTTP/1.1 200 OK\r\n\r\n")) as server:
        for handler in ("httpGet", "tcpSocket"):
            outcome = await check(network=False, **{handler: {"port": server.port}})()
            assert outcome.message.endswith("connect: connection refused")
            named = {handler: {"port": server.port, "host": HOST}}
            assert await check(network=False, **named)() == Outcome(Result.SUCCESS)


async def test_a_port_that_takes_connections() -> None:
    async with serving(answers()) as server:
        assert await check(tcpSocket={"port": server.port})() == Outcome(Result.SUCCESS)


async def test_a_port_that_takes_none() -> None:
    with full() as port:
        outcome = await check(tcpSocket={"port": port})()
    assert outcome == Outcome(Result.FAILURE, f"dial tcp 127.0.0.1:{port}: i/o timeout")


class Health(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers health checks by the service that they name."""

    def __init__(self) -> None:
        self.agents: list[str] = []

    def service(self, details: Any) -> Any:
        if details.method != "/grpc.health.v1.Health/Check":
            return None
        self.agents.append(dict(details.invocation_metadata)["user-agent"])
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, request: bytes, context: Any) -> bytes:
        match request[2:]:
            case b"":
                return b"\x08\x01"
            case b"ill":
                return b"\x08\x02"
            case b"odd":
                return b""
            case b"slow":
                await asyncio.sleep(60)
        await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        raise AssertionError


@contextlib.asynccontextmanager
async def grpc_server(*handlers: Any) -> AsyncIterator[int]:
    server = grpc.aio.server(handlers=handlers)
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("", Outcome(Result.SUCCESS, "service healthy")),
        ("ill", Outcome(Result.FAILURE, 'service unhealthy (responded with "NOT_SERVING")')),
        ("odd", Outcome(Result.FAILURE, 'service unhealthy (responded with "UNKNOWN")')),
        ("slow", Outcome(Result.FAILURE, "timeout: health rpc did not complete within 1s")),
        (
            "x" * 300,
            Outcome(
                Result.FAILURE,
                "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service",
            ),
        ),
    ],
)
async def test_a_health_check(service: str, expected: Outcome) -> None:
    health = Health()
    async with grpc_server(health) as port:
        assert await check(grpc={"port": port, "service": service})() == expected
    assert health.agents[0].startswith("kube-probe/1.37")


async def test_a_server_without_health_checks() -> None:
    async with grpc_server() as port:
        outcome = await check(grpc={"port": port})()
    begin = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
    assert outcome.message.startswith(begin)


@pytest.mark.parametrize("network", [True, False])
async def test_no_grpc_server(network: bool) -> None:
    text = 'timeout: failed to connect service "127.0.0.1:1" within 1s: context deadline exceeded'
    assert await check(network=network, grpc={"port": 1})() == Outcome(Result.FAILURE, text)


async def test_a_node_without_files_says_nothing_of_a_grpc_server() -> None:
    await check(grpc={"port": 1})()  # what is opened once is open now
    with no_files([os.getpid()]), pytest.raises(OSError, match="Too many open files"):
        await check(grpc={"port": 1})()
