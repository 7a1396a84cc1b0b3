"""The cluster's services as a start asks for them; over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient
from vkubelet.api.cluster_services import ClusterServices

Script = Any


def service(name: str, version: str, address: str = "10.1.1.1", uid: str = "") -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "shop",
        "uid": uid or f"uid-{name}",
        "resourceVersion": version,
        "annotations": {"note": "x" * 1000},
    }
    return {"metadata": metadata, "spec": {"clusterIP": address, "ports": [{"port": 80}]}}


@asynccontextmanager
async def running(client: ApiClient) -> AsyncIterator[ClusterServices]:
    services = ClusterServices(client, backoff=Backoff(0.001, 0.01))
    task = asyncio.create_task(services.run())
    try:
        yield services
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_services_with_an_address_are_followed(api: Script, client: ApiClient) -> None:
    events = [
        {"type": "ADDED", "object": service("b", "11")},
        {"type": "ADDED", "object": service("pending", "12", address="")},
        {"type": "DELETED", "object": service("c", "13")},
        # Another of a deleted one's name, whose deletion is told late.
        {"type": "ADDED", "object": service("d", "14", uid="second")},
        {"type": "DELETED", "object": service("d", "15")},
        {"type": "MODIFIED", "object": service("e", "16", address="")},
    ]
    first = api.pods("10", *(service(name, "7") for name in "acde"))
    api.then(first, api.watch(*events, end="close"), api.watch())
    async with running(client) as services:
        await api.asked(3)
        assert [found.metadata.name for found in await services.in_namespace("shop", 5)] == ["a", "b", "d"]
        assert await services.in_namespace("empty", 5) == []
    assert api.requests[0].query["fieldSelector"] == "spec.clusterIP!=None"


async def test_a_start_waits_for_the_first_list(api: Script, client: ApiClient) -> None:
    api.then(api.hang)
    async with running(client) as services:
        with pytest.raises(TimeoutError):
            await services.in_namespace("shop", 0.05)
