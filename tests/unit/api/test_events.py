"""The recorder: what it sends, what it does when nobody answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient
from vkubelet.api.events import EventRecorder
from vkubelet.api.objects import ObjectReference

Script = Any
REF = ObjectReference(kind="Pod", namespace="shop", name="web", uid="u")


@asynccontextmanager
async def running(client: ApiClient, qps: float = 0, burst: int = 1) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(client, "wasm-1", qps=qps, burst=burst, backoff=Backoff(0.001, 0.01))
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_new_event_is_posted_and_its_repeat_patched(api: Script, client: ApiClient) -> None:
    api.then(api.json({}))
    async with running(client) as recorder:
        recorder.event(REF, "Normal", "Pulled", "got it")
        recorder.event(REF, "Normal", "Pulled", "got it")
        await recorder.flush(10)
    create, patch = api.requests
    assert (create.method, create.path) == ("POST", "/api/v1/namespaces/shop/events")
    name = json.loads(api.bodies[0])["metadata"]["name"]
    assert (patch.method, patch.path) == ("PATCH", f"/api/v1/namespaces/shop/events/{name}")
    assert patch.content_type == "application/strategic-merge-patch+json"
    assert json.loads(api.bodies[1])["count"] == 2


async def test_a_repeat_whose_event_has_expired_is_posted_anew(api: Script, client: ApiClient) -> None:
    api.then(api.json({}), api.status(404, "NotFound"), api.json({}))
    async with running(client) as recorder:
        for _ in range(2):
            recorder.event(REF, "Normal", "Pulled", "got it")
        await recorder.flush(10)
    assert [request.method for request in api.requests] == ["POST", "PATCH", "POST"]
    assert json.loads(api.bodies[2])["count"] == 2


async def test_faults_are_waited_out_and_refusals_are_not(
    api: Script, client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    api.then(
        api.reset,
        api.status(500, "InternalError"),
        api.status(409, "AlreadyExists"),
        api.status(403, "Forbidden"),
        api.json({}),
    )
    async with running(client) as recorder:
        for message in ("sent", "refused", "sent too"):
            recorder.event(REF, "Normal", "Pulled", message)
        await recorder.flush(10)
    messages = [json.loads(body)["message"] for body in api.bodies]
    assert messages == ["sent", "sent", "sent", "refused", "sent too"]
    assert "event Pulled about shop/web refused: 403 Forbidden" in caplog.text


async def test_a_server_that_never_answers_costs_old_events_and_no_waiting(
    api: Script, client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    api.then(api.hang)
    recorder = EventRecorder(client, "wasm-1", qps=0, burst=1)
    for number in range(5500):
        recorder.event(ObjectReference(kind="Pod", namespace="d", name=f"p{number}"), "Normal", "R", "m")
    await recorder.flush(0.01)
    assert "5000 events not sent in time" in caplog.text
    task = asyncio.create_task(recorder.run())
    await api.asked(1)
    assert json.loads(api.bodies[0])["involvedObject"]["name"] == "p500"
    assert "500 events dropped" in caplog.text
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_the_rate_is_kept(api: Script, client: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    real = asyncio.sleep

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        await real(0)

    monkeypatch.setattr("vkubelet.api.events.asyncio.sleep", nap)
    api.then(api.json({}))
    async with running(client, qps=0.001, burst=2) as recorder:
        for number in range(4):
            recorder.event(ObjectReference(kind="Pod", name=f"p{number}"), "Normal", "R", "m")
        await recorder.flush(10)
    assert naps == [pytest.approx(1000, rel=0.01), pytest.approx(2000, rel=0.01)]
