"""Statistics and metrics over a real socket, with a provider and a machine that do as they are told."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from serving import serving_routes
from snapshots import container, machine, pod_entry, usage

from providers.base import ProviderError, Usage
from vkubelet.pods.inventory import PodEntry
from vkubelet.pods.machine import MachineUsage
from vkubelet.server.metrics.routes import MetricsRoutes
from vkubelet.server.metrics.snapshot import AGENT, NODE, Observer


@dataclasses.dataclass
class Node:
    """What is measured, and how often it was asked for; an `error` is raised."""

    entries: list[PodEntry]
    usages: dict[str, Usage]
    error: Exception | None = None
    asked: int = 0
    held: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    reached: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    machine_usage: MachineUsage = dataclasses.field(default_factory=machine)

    def pods(self) -> list[PodEntry]:
        return self.entries

    async def usage(self, container_ids: Iterable[str]) -> dict[str, Usage]:
        self.asked += 1
        self.reached.set()
        await self.held.wait()
        if self.error is not None:
            raise self.error
        return {name: self.usages[name] for name in container_ids if name in self.usages}

    async def overhead(self) -> Usage | None:
        return usage(disk=None, inodes=None)

    def machine(self) -> MachineUsage:
        return self.machine_usage


@pytest.fixture
async def here() -> Node:
    entries = [pod_entry("web", container("main"), container("side", running=False)), pod_entry("new")]
    node = Node(entries, {"m" * 64: usage()})
    node.held.set()
    return node


@pytest.fixture
async def observer(here: Node) -> AsyncIterator[Observer]:
    made = Observer(here, here, here.machine)
    yield made
    await made.close()


@pytest.fixture
async def url(here: Node, observer: Observer, tmp_path: Path) -> AsyncIterator[str]:
    logs = tmp_path / "default_web_web-uid" / "main"
    logs.mkdir(parents=True)
    (logs / "0.log").write_bytes(b"x" * 5000)
    group = MetricsRoutes(observer, here, node="here", pod_logs_dir=tmp_path, images_size=lambda: 77)
    async with serving_routes(group.routes()) as url:
        yield url


async def get(url: str, **headers: str) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            url, headers={name.replace("_", "-"): value for name, value in headers.items()}
        ) as answer,
    ):
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def get_json(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        return await answer.json()


async def test_summary(url: str) -> None:
    found = await get_json(f"{url}/stats/summary")
    assert [pod["podRef"]["name"] for pod in found["pods"]] == ["web"]
    (one,) = found["pods"][0]["containers"]
    assert one["logs"]["usedBytes"] >= 5000
    assert found["node"]["runtime"]["imageFs"]["usedBytes"] == 77


@pytest.mark.parametrize(
    ("query", "whole"),
    [
        ("only_cpu_and_memory=true", False),
        ("only_cpu_and_memory=false", True),
        ("only_cpu_and_memory=1", True),
        ("only_cpu_and_memory=true&only_cpu_and_memory=true", True),
        ("", True),
    ],
)
async def test_summary_of_cpu_and_memory_only(url: str, query: str, whole: bool) -> None:
    found = await get_json(f"{url}/stats/summary?{query}")
    assert ("logs" in found["pods"][0]["containers"][0]) is whole


async def test_summary_by_post(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/stats/summary") as answer:
        assert (await answer.json())["node"]["nodeName"] == "here"


@pytest.mark.parametrize("error", [ProviderError("no launcher"), OSError("a disk is gone")])
async def test_a_failure_is_told(url: str, here: Node, error: Exception) -> None:
    here.error = error
    status, _, text = await get(f"{url}/stats/summary")
    assert (status, text) == (500, f"Internal Error: {error}")
    status, _, text = await get(f"{url}/metrics/resource")
    assert (status, text.splitlines()[-1]) == (200, "resource_scrape_error 1")
    here.error = None
    _, _, text = await get(f"{url}/metrics/resource")
    assert text.splitlines()[-1] == "resource_scrape_error 0"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/metrics", "kubelet_running_pods"),
        ("/metrics/cadvisor", "container_memory_working_set_bytes"),
        ("/metrics/probes", "process_start_time_seconds"),
        ("/metrics/resource", "node_cpu_usage_seconds_total"),
    ],
)
async def test_every_endpoint_in_both_formats(url: str, path: str, name: str) -> None:
    status, kind, text = await get(f"{url}{path}")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores")
    assert name in {sample.name for family in parse_text(text) for sample in family.samples}
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert families == sorted(set(families))
    status, kind, text = await get(f"{url}{path}", Accept="application/openmetrics-text;version=1.0.0")
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
    assert name in {sample.name for family in parse_openmetrics(text) for sample in family.samples}


async def test_compression(url: str) -> None:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(f"{url}/metrics/cadvisor", headers={"Accept-Encoding": "gzip"}) as answer,
    ):
        assert answer.headers["Content-Encoding"] == "gzip"
        assert b"container_memory_rss" in gzip.decompress(await answer.read())
        assert int(answer.headers["Content-Length"]) > 0
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(f"{url}/metrics/probes", headers={"Accept-Encoding": "gzip"}) as answer,
    ):
        assert "Content-Encoding" not in answer.headers


async def test_the_agents_counters_and_the_sizes_of_logs(url: str) -> None:
    _, _, text = await get(f"{url}/metrics")
    samples = {sample.name: sample for family in parse_text(text) for sample in family.samples}
    assert samples["kubelet_node_name"].labels == {"node": "here"}
    assert samples["kubelet_container_log_filesystem_used_bytes"].value >= 5000
    assert "kubelet_pod_start_duration_seconds_count" in samples


async def test_questions_at_the_same_time_share_a_look(observer: Observer, here: Node) -> None:
    here.held.clear()
    asking = [asyncio.create_task(observer.snapshot()) for _ in range(5)]
    given_up = asyncio.create_task(observer.snapshot())
    await here.reached.wait()
    given_up.cancel()
    here.held.set()
    seen = await asyncio.gather(*asking)
    assert here.asked == 1
    assert all(one is seen[0] for one in seen)
    assert given_up.cancelled()
    assert await observer.snapshot() is not seen[0]


async def test_a_look(observer: Observer, here: Node) -> None:
    seen = await observer.snapshot()
    (pod,) = seen.pods
    assert [one.spec.name for one, _ in pod.containers] == ["main"]
    assert seen.agent.memory > 0
    assert seen.rates == {}
    # What ends between the question and the measurement has no usage, but what it used stays its pod's.
    here.usages.clear()
    assert (await observer.snapshot()).pods == ()
    here.usages["m" * 64] = usage(cpu=5)
    assert (await observer.snapshot()).pods[0].cpu == usage().cpu + 5


async def test_rates_of_a_look(here: Node, observer: Observer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vkubelet.server.metrics.rates.SHORTEST", 0.0)
    await observer.snapshot()
    here.usages["m" * 64] = usage(cpu=usage().cpu + 10**6)
    here.machine_usage = machine(measured_at=machine().measured_at + 10, cpu=machine().cpu + 10**7)
    seen = await observer.snapshot()
    assert seen.rates[NODE] == 10**6
    assert seen.rates["m" * 64] == seen.rates["web-uid"] > 0
    assert AGENT in seen.rates


async def test_a_look_under_way_ends_with_the_observer(here: Node) -> None:
    observer = Observer(here, here, here.machine)
    here.held.clear()
    asking = asyncio.create_task(observer.snapshot())
    await here.reached.wait()
    await observer.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
