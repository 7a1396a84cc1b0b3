"""`/debug` over a real socket, and who may see it."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from authority import Authority
from serving import serving_routes

from vkubelet.debug.state import Diagnosis
from vkubelet.pods.insight import PodInsight
from vkubelet.server.app import KubeletServer
from vkubelet.server.auth import KubeletAuth
from vkubelet.server.auth_attributes import Attributes
from vkubelet.server.debug import DebugRoutes


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def diagnosis() -> Diagnosis:
    made = Diagnosis()
    pod = PodInsight("default", "web", "u", "Running", 1.0, ("news",), "mounted", ())
    made.tell_of(lambda: [pod], {"statuses": lambda: {"due": 2}})
    return made


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving_routes(DebugRoutes(diagnosis()).routes()) as url:
        yield url


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


async def test_tasks_as_text_and_as_json(url: str, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{url}/debug/tasks") as answer:
        assert (answer.status, answer.content_type) == (200, "text/plain")
        assert "RequestHandler._handle_request" in await answer.text()
    async with session.get(f"{url}/debug/tasks?format=json") as answer:
        assert answer.content_type == "application/json"
        found = await answer.json()
    assert {"name", "coroutine", "stack"} == found[0].keys()
    async with session.get(f"{url}/debug/tasks?format=xml") as answer:
        assert (answer.status, await answer.text()) == (400, "format: expected text or json\n")


async def test_pods_and_queues(url: str, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{url}/debug/pods") as answer:
        (found,) = await answer.json()
    assert (found["pod"]["name"], found["pod"]["waitsFor"], found["tasks"]) == ("web", ["news"], {})
    async with session.get(f"{url}/debug/queues") as answer:
        assert await answer.json() == {"statuses": {"due": 2}}


@pytest.mark.parametrize(
    ("method", "body", "status", "text"),
    [
        ("PUT", b"4", 200, "successfully set klog.logging.verbosity to 4\n"),
        ("PUT", b"0", 200, "successfully set klog.logging.verbosity to 0\n"),
        ("PUT", b"loud", 400, "failed set klog.logging.verbosity loud: "),
        ("PUT", b"\xff", 400, "failed set klog.logging.verbosity "),
        ("PUT", b"", 400, "failed set klog.logging.verbosity : "),
        ("PUT", b"9" * 100_000, 400, "failed set klog.logging.verbosity 999"),
        ("GET", b"", 406, "unsupported http method\n"),
        ("POST", b"4", 406, "unsupported http method\n"),
    ],
)
async def test_the_verbosity(
    url: str, session: aiohttp.ClientSession, method: str, body: bytes, status: int, text: str
) -> None:
    async with session.request(method, f"{url}/debug/flags/v", data=body) as answer:
        assert (answer.status, answer.content_type) == (status, "text/plain")
        assert (await answer.text()).startswith(text)


async def test_the_level_changes(url: str, session: aiohttp.ClientSession) -> None:
    for verbosity, level in ((b"5", logging.DEBUG), (b"2", logging.INFO)):
        async with session.put(f"{url}/debug/flags/v", data=verbosity) as answer:
            assert answer.status == 200
        assert logging.getLogger().level == level


class Asked:
    """An authorizer that allows one thing."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.asked: list[tuple[str, str]] = []

    async def allows(self, attributes: Attributes) -> bool:
        self.asked.append((attributes.verb, attributes.subresource))
        return attributes.verb == self.verb


async def test_who_may_not_use_the_proxy_sees_nothing(
    authority: Authority, server_files: tuple, client_files: tuple
) -> None:
    asked = Asked("get")
    server = KubeletServer(
        address="127.0.0.1",
        port=0,
        tls=authority.server(server_files),
        healthy=lambda: None,
        auth=KubeletAuth("here", asked),
        groups=[DebugRoutes(diagnosis())],
    )
    url = f"https://127.0.0.1:{await server.start()}"
    timeout = aiohttp.ClientTimeout(total=30)
    try:
        connector = aiohttp.TCPConnector(ssl=authority.client(client_files))
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as known:
            async with known.get(f"{url}/debug/queues") as answer:
                assert (answer.status, json.loads(await answer.text())) == (200, {"statuses": {"due": 2}})
            async with known.put(f"{url}/debug/flags/v", data=b"4") as answer:
                assert answer.status == 403
                assert "verb=update, resource=nodes, subresource(s)=[proxy]" in await answer.text()
            async with known.get(f"{url}/debug/none") as answer:
                assert (answer.status, await answer.text()) == (404, "404: Page Not Found")
        assert asked.asked == [("get", "proxy"), ("update", "proxy"), ("get", "proxy")]
        connector = aiohttp.TCPConnector(ssl=authority.client(None))
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as stranger,
            stranger.get(f"{url}/debug/tasks") as answer,
        ):
            assert (answer.status, await answer.text()) == (401, "Unauthorized")
    finally:
        await server.close()
