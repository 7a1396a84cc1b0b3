"""The reporter against an API server that fails on demand, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from serving import serving

from vkubelet.api.client import ApiClient
from vkubelet.api.credentials import Credentials
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec, PodStatus
from vkubelet.pods import reporter as module
from vkubelet.pods.reporter import Reporter


class Server:
    """Takes patches and deletions; answers with `codes` first and with 200 when they are used up."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, object]]] = []
        self.codes: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        async with self.arrived:
            self.seen.append((request.method, request.path, body))
            self.arrived.notify_all()
        await self.gate.wait()
        code = self.codes.pop(0) if self.codes else 200
        return web.json_response({"kind": "Status", "code": code, "message": "said so"}, status=code)

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(20), self.arrived:
            await self.arrived.wait_for(lambda: len(self.seen) >= count)

    def phases(self) -> list[object]:
        return [body["status"]["phase"] for method, _, body in self.seen if method == "PATCH"]  # type: ignore[index]


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def reporter(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Reporter]:
    monkeypatch.setattr(module, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(module, "REFUSED_AGAIN", 0.01)
    async with serving(server.handle) as url:
        client = ApiClient(Credentials(url), tmp_path / "kubeconfig")
        made = Reporter(client)
        task = asyncio.create_task(made.run())
        yield made
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await client.close()


def pod(uid: str = "u1") -> Pod:
    return Pod(metadata=ObjectMeta(name=f"p-{uid}", namespace="ns", uid=uid), spec=PodSpec())


async def test_the_latest_status_wins_while_one_is_on_its_way(server: Server, reporter: Reporter) -> None:
    server.gate.clear()
    reporter.report(pod(), PodStatus(phase="Pending"))
    await server.wait_for(1)
    for phase in ("A", "B", "Running"):
        reporter.report(pod(), PodStatus(phase=phase))
    server.gate.set()
    await server.wait_for(2)
    await reporter.drain(5)
    assert server.phases() == ["Pending", "Running"]


async def test_calm_is_when_every_status_was_sent_and_not_only_just(
    server: Server, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALM", 0.01)
    server.gate.clear()
    reporter.report(pod(), PodStatus(phase="Running"))
    await server.wait_for(1)
    waiting = asyncio.create_task(reporter.calm(60))
    await reporter.calm(0.02)
    assert not waiting.done(), "who has waited long enough is let go, the other is not"
    server.gate.set()
    async with asyncio.timeout(20):
        await waiting


async def test_what_the_server_knows_is_not_sent_again(server: Server, reporter: Reporter) -> None:
    reporter.report(pod(), PodStatus(phase="Running"))
    await server.wait_for(1)
    await reporter.drain(5)
    reporter.report(pod(), PodStatus(phase="Running"))
    reporter.report(pod("u2"), PodStatus(phase="Running"))
    await server.wait_for(2)
    await reporter.drain(5)
    assert [path for _, path, _ in server.seen] == [
        "/api/v1/namespaces/ns/pods/p-u1/status",
        "/api/v1/namespaces/ns/pods/p-u2/status",
    ]


@pytest.mark.parametrize("code", [401, 403, 429, 500, 503])
async def test_a_server_in_trouble_is_tried_again(server: Server, reporter: Reporter, code: int) -> None:
    server.codes = [code, code]
    reporter.report(pod(), PodStatus(phase="Running"))
    await server.wait_for(3)
    await reporter.drain(5)
    assert server.phases() == ["Running"] * 3


@pytest.mark.parametrize("code", [404, 409])
async def test_a_pod_that_is_gone_is_forgotten(server: Server, reporter: Reporter, code: int) -> None:
    server.codes = [code]
    async with asyncio.timeout(20):
        await reporter.finish(pod(), PodStatus(phase="Failed"))
    assert [method for method, _, _ in server.seen] == ["PATCH"]


async def test_the_end_is_reported_before_the_object_is_deleted(server: Server, reporter: Reporter) -> None:
    server.codes = [503, 200, 500]
    async with asyncio.timeout(20):
        await reporter.finish(pod(), PodStatus(phase="Failed"))
    assert [method for method, _, _ in server.seen] == ["PATCH", "PATCH", "DELETE", "DELETE"]
    assert server.seen[-1][2] == {"gracePeriodSeconds": 0, "preconditions": {"uid": "u1"}}


async def test_who_waits_for_a_vanished_pod_is_let_go(server: Server, reporter: Reporter) -> None:
    server.gate.clear()
    waiting = asyncio.create_task(reporter.finish(pod(), PodStatus(phase="Failed")))
    await server.wait_for(1)
    reporter.forget("u1")
    async with asyncio.timeout(20):
        await waiting
    server.gate.set()
