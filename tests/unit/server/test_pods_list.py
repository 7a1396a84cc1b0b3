"""Lists of pods: whole ones from the API server, and what the node knows while there is none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from serving import serving_routes
from snapshots import container, pod_entry

from vkubelet.api.client import ApiError, ApiUnavailableError
from vkubelet.pods.inventory import PodEntry
from vkubelet.server.pods_list import PodListRoutes

WHOLE = (
    b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[{"of":"the server"}]}'
)


@dataclass
class Server:
    """The API server's side, as far as it is asked; an `error` is raised."""

    error: Exception | None = None
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def get(self, path: str, *, query: Any = None, timeout: float = 10.0) -> bytes:
        self.asked.append((path, query))
        if self.error is not None:
            raise self.error
        return WHOLE


class Inventory:
    def pods(self) -> list[PodEntry]:
        return [
            pod_entry("web", container("main"), container("side", running=False)),
            pod_entry("over", container(running=False), phase="Succeeded"),
        ]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def url(server: Server) -> AsyncIterator[str]:
    async with serving_routes(PodListRoutes(server, Inventory(), "here").routes()) as url:  # type: ignore[arg-type]
        yield url


async def get(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        return json.loads(await answer.read())


@pytest.mark.parametrize("path", ["/pods", "/pods/"])
async def test_pods_are_the_servers_objects(url: str, server: Server, path: str) -> None:
    assert await get(url + path) == json.loads(WHOLE)
    assert server.asked == [("/api/v1/pods", {"fieldSelector": "spec.nodeName=here", "resourceVersion": "0"})]


@pytest.mark.parametrize("error", [ApiUnavailableError("it is down"), ApiError(403, "Forbidden", "no")])
async def test_pods_are_the_nodes_own_while_there_is_no_server(
    url: str, server: Server, error: Exception
) -> None:
    server.error = error
    found = await get(url + "/pods")
    assert (found["kind"], found["apiVersion"]) == ("PodList", "v1")
    assert [pod["metadata"]["name"] for pod in found["items"]] == ["web", "over"]
    assert found["items"][0]["spec"]["containers"][0] == {
        "name": "main",
        "image": "registry.test/main:v1",
        "resources": {},
    }


@pytest.mark.parametrize("path", ["/runningpods", "/runningpods/"])
async def test_running_pods_are_what_runs(url: str, path: str) -> None:
    assert await get(url + path) == {
        "kind": "PodList",
        "apiVersion": "v1",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": "web", "namespace": "default", "uid": "web-uid"},
                "spec": {
                    "containers": [{"name": "main", "image": "registry.test/main@sha256:1", "resources": {}}]
                },
                "status": {},
            }
        ],
    }
