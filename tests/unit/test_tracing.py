"""Spans of a pod's start, and their way to a collector over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from fake_node import Setting, pods_of_a_node
from serving import serving
from waiting import until

from vkubelet import otlp, telemetry, tracing
from vkubelet.api.objects import Pod
from vkubelet.config import Config, ConfigError, load
from vkubelet.otlp import Exporter, encode, exporting
from vkubelet.tracing import Span

ALL = 1_000_000


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    found: list[Span] = []
    tracing.record(found.append, ALL)
    yield found
    tracing.record(None)


async def in_a_task(work: Any) -> None:
    await asyncio.create_task(work())


async def test_steps_are_spans_below_the_one_around_them(spans: list[Span]) -> None:
    async def child() -> None:
        with tracing.span("of a task"):
            await asyncio.sleep(0)

    async def work() -> None:
        tracing.begin("root", {"a": "b"})
        with tracing.span("outer"), tracing.span("inner", {"c": "d"}):
            await asyncio.create_task(child())
        tracing.finish()
        tracing.finish("too late")
        with tracing.span("afterwards"):
            pass

    await in_a_task(work)
    by_name = {span.name: span for span in spans}
    assert [span.name for span in spans] == ["of a task", "inner", "outer", "root"]
    assert by_name["root"].parent_id == ""
    assert by_name["outer"].parent_id == by_name["root"].span_id
    assert by_name["inner"].parent_id == by_name["outer"].span_id
    assert by_name["of a task"].parent_id == by_name["inner"].span_id
    assert len({span.trace_id for span in spans}) == 1
    assert len({span.span_id for span in spans}) == 4
    assert (by_name["root"].attributes, by_name["inner"].attributes) == ({"a": "b"}, {"c": "d"})
    assert all(span.began <= span.ended and not span.error for span in spans)


async def test_a_step_that_fails_says_so_and_raises(spans: list[Span]) -> None:
    async def work() -> None:
        tracing.begin("root", {})
        with pytest.raises(ValueError, match="broken"), tracing.span("fails"):
            raise ValueError("broken" + "x" * 1000)
        with pytest.raises(asyncio.CancelledError), tracing.span("ends"):
            raise asyncio.CancelledError
        tracing.finish("OutOfcpu")

    await in_a_task(work)
    errors = [span.error for span in spans]
    assert errors[0].startswith("ValueError: brokenxxx")
    assert len(errors[0]) == 256
    assert errors[1:] == ["cancelled", "OutOfcpu"]


async def test_nothing_is_traced_unless_wanted() -> None:
    found: list[Span] = []

    async def work() -> None:
        tracing.begin("root", {})
        with tracing.span("step"):
            pass
        tracing.finish()

    await in_a_task(work)
    tracing.record(found.append, 0)
    try:
        await in_a_task(work)
    finally:
        tracing.record(None)
    assert found == []


def pod(image: str = "img") -> Pod:
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"containers": [{"name": "a", "image": image}], "volumes": [{"name": "v", "emptyDir": {}}]},
    }
    return msgspec.convert(document, Pod)


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with pods_of_a_node(tmp_path) as made:
        yield made


async def test_the_start_of_a_pod(setting: Setting, spans: list[Span]) -> None:
    setting.manager.on_change(pod())
    await setting.told.until(lambda: setting.phase() == "Running")
    by_name = {span.name: span for span in spans}
    root, container = by_name["pod start"], by_name["container"]
    assert by_name.keys() == {
        *("pod start", "volumes", "container", "image", "environment", "compile", "start"),
    }
    assert root.attributes == {
        "k8s.namespace.name": "ns",
        "k8s.pod.name": "p",
        "k8s.pod.uid": "u",
    }
    assert container.attributes == {"k8s.container.name": "a"}
    assert by_name["volumes"].parent_id == container.parent_id == root.span_id
    assert by_name["image"].attributes == {"container.image.name": "img"}
    assert {by_name[name].parent_id for name in ("image", "environment", "compile", "start")} == {
        container.span_id
    }


async def test_a_pod_that_never_starts_has_a_trace_that_says_so(setting: Setting, spans: list[Span]) -> None:
    setting.manager.on_change(pod("missing"))
    await setting.told.until(lambda: setting.told.waiting() == "ErrImagePull")
    deleted = pod("missing")
    deleted.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    setting.manager.on_change(deleted)
    await setting.told.until(lambda: setting.told.finished)
    await until(lambda: spans[-1].name == "pod start")
    root = next(span for span in spans if span.name == "pod start")
    assert root.error == "it ended before it had started"
    assert next(span for span in spans if span.name == "image").error.startswith("StartError: ")


def some(count: int = 1) -> list[Span]:
    return [
        Span("ab" * 16, f"{number:016x}", "", f"n{number}", {"k": "v"}, 1, 2, "bad")
        for number in range(count)
    ]


def test_the_protocols_json() -> None:
    (resource,) = json.loads(encode(some(), {"service.name": "vkubelet"}))["resourceSpans"]
    assert resource["resource"]["attributes"] == [
        {"key": "service.name", "value": {"stringValue": "vkubelet"}},
    ]
    (scope,) = resource["scopeSpans"]
    assert scope["spans"] == [
        {
            "traceId": "ab" * 16,
            "spanId": "0" * 16,
            "parentSpanId": "",
            "name": "n0",
            "kind": 1,
            "startTimeUnixNano": "1",
            "endTimeUnixNano": "2",
            "attributes": [{"key": "k", "value": {"stringValue": "v"}}],
            "status": {"code": 2, "message": "bad"},
        }
    ]


class Collector:
    """Notes what it takes. `answers` come first, one for each request."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.names: list[str] = []
        self.requests = 0
        self.news = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.Response:
        assert (request.method, request.path) == ("POST", "/v1/traces")
        assert request.content_type == "application/json"
        self.requests += 1
        answer = self.answers.pop(0) if self.answers else web.json_response({"partialSuccess": {}})
        if answer.status == 200:
            for resource in (await request.json())["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    self.names += [span["name"] for span in scope["spans"]]
        async with self.news:
            self.news.notify_all()
        return answer

    async def took(self, count: int) -> None:
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: len(self.names) >= count)


@pytest.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    made = Collector()
    async with serving(made.handle) as url:
        yield made, url


def counted() -> dict[str, float]:
    found = {sample.labels: sample.value for sample in telemetry.TRACE_SPANS.family().samples}
    return {what: found.get(f'result="{what}"', 0.0) for what in ("exported", "rejected", "dropped")}


def change(before: dict[str, float]) -> dict[str, float]:
    return {what: value - before[what] for what, value in counted().items() if value != before[what]}


async def test_spans_reach_the_collector_when_the_agent_ends(collector: tuple[Collector, str]) -> None:
    found, url = collector
    before = counted()

    async def work() -> None:
        tracing.begin("root", {})
        tracing.finish()

    config = Config(node_name="here", tracing_endpoint=url, tracing_sampling_rate_per_million=ALL)
    async with exporting(config):
        await in_a_task(work)
    assert found.names == ["root"]
    assert change(before) == {"exported": 1}
    await in_a_task(work)
    assert found.names == ["root"]


async def test_without_an_endpoint_nothing_happens() -> None:
    before = asyncio.all_tasks()
    async with exporting(Config(tracing_sampling_rate_per_million=ALL)):
        assert asyncio.all_tasks() == before


async def sent(exporter: Exporter, spans: list[Span]) -> None:
    """Have them sent, or dropped."""
    for span in spans:
        exporter.put(span)
    sending = asyncio.create_task(exporter.run())
    await exporter.flush(20.0)
    sending.cancel()
    await asyncio.wait([sending])


async def test_many_spans_go_in_batches(collector: tuple[Collector, str]) -> None:
    found, url = collector
    await sent(Exporter(url, "here"), some(2 * otlp.BATCH + 1))
    assert (len(found.names), found.requests) == (2 * otlp.BATCH + 1, 3)


async def test_what_the_queue_does_not_hold_is_dropped_and_counted(collector: tuple[Collector, str]) -> None:
    found, url = collector
    before = counted()
    await sent(Exporter(url, "here"), some(otlp.QUEUE + 7))
    assert len(found.names) == otlp.QUEUE
    assert change(before) == {"exported": otlp.QUEUE, "dropped": 7}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_collector_that_is_busy_is_asked_again(
    collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    found, url = collector
    monkeypatch.setattr(otlp, "RETRY_FIRST", 0.001)
    found.answers = [web.Response(status=status), web.Response(status=status, headers={"Retry-After": "0"})]
    before = counted()
    await sent(Exporter(url, "here"), some(2))
    assert (found.names, found.requests) == (["n0", "n1"], 3)
    assert change(before) == {"exported": 2}


async def test_a_batch_is_given_up_after_some_tries(
    collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found, url = collector
    monkeypatch.setattr(otlp, "RETRY_FIRST", 0.001)
    found.answers = [web.Response(status=503) for _ in range(otlp.TRIES)]
    before = counted()
    await sent(Exporter(url, "here"), some(3))
    assert (found.names, found.requests) == ([], otlp.TRIES)
    assert change(before) == {"dropped": 3}
    assert caplog.text.count("traces are not taken by the collector") == 1


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=400),
        lambda: web.Response(status=307, headers={"Location": "/elsewhere"}),
        lambda: web.Response(text="<html>"),
        lambda: web.json_response({"partialSuccess": {"rejectedSpans": "many"}}),
    ],
)
async def test_what_a_collector_does_not_want_is_dropped_at_once(
    collector: tuple[Collector, str], answer: Any
) -> None:
    found, url = collector
    found.answers = [answer()]
    before = counted()
    await sent(Exporter(url, "here"), some(2))
    assert found.requests == 1
    assert change(before) == {"dropped": 2}


async def test_spans_that_a_collector_rejects_are_counted(collector: tuple[Collector, str]) -> None:
    found, url = collector
    found.answers = [web.json_response({"partialSuccess": {"rejectedSpans": "2", "errorMessage": "old"}})]
    before = counted()
    await sent(Exporter(url, "here"), some(3))
    assert change(before) == {"exported": 1, "rejected": 2}


async def test_a_collector_that_hangs_costs_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "DEADLINE", 0.01)
    monkeypatch.setattr(otlp, "RETRY_FIRST", 0.001)

    async def hang(request: web.Request) -> web.Response:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    before = counted()
    async with serving(hang) as url:
        await sent(Exporter(url, "here"), some())
    assert change(before) == {"dropped": 1}


async def test_no_collector_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "RETRY_FIRST", 0.001)
    before = counted()
    await sent(Exporter("http://127.0.0.1:1", "here"), some())
    assert change(before) == {"dropped": 1}


@pytest.mark.parametrize(
    "endpoint", ["localhost:4317", "ftp://h", "http://user:password@h:4318", "http://h?key=1", "http://h h"]
)
def test_endpoints_that_are_none(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="tracingEndpoint"):
        load({"tracing_endpoint": endpoint}, {}, None)
