"""The informer under every fault that a watch can have, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient
from vkubelet.api.informer import PodInformer
from vkubelet.api.objects import Pod

Script = Any
MakePod = Callable[..., dict[str, Any]]

GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
BOOKMARK = {
    "type": "BOOKMARK",
    "object": {"kind": "Pod", "metadata": {"resourceVersion": "50"}, "spec": {"containers": None}},
}


class Seen:
    """What the informer told, in order; `until` waits for it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._more = asyncio.Event()

    def change(self, pod: Pod) -> None:
        self._tell(f"{pod.metadata.name}@{pod.metadata.resource_version}")

    def delete(self, pod: Pod) -> None:
        self._tell(f"-{pod.metadata.name}@{pod.metadata.resource_version}")

    async def until(self, *expected: str) -> None:
        async with asyncio.timeout(10):
            while len(self.told) < len(expected):
                self._more.clear()
                await self._more.wait()
        assert self.told == list(expected)

    def _tell(self, text: str) -> None:
        self.told.append(text)
        self._more.set()


@asynccontextmanager
async def running(client: ApiClient, seen: Seen, **options: Any) -> AsyncIterator[PodInformer]:
    informer = PodInformer(
        client,
        "wasm-1",
        on_change=seen.change,
        on_delete=seen.delete,
        backoff=Backoff(0.001, 0.01),
        **options,
    )
    task = asyncio.create_task(informer.run())
    try:
        yield informer
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def event(type_: str, pod: dict[str, Any]) -> dict[str, Any]:
    return {"type": type_, "object": pod}


async def test_list_then_watch_from_its_version(api: Script, client: ApiClient, pod: MakePod) -> None:
    seen = Seen()
    api.then(
        api.pods("10", pod("a", "7"), more="next"),
        api.pods("10", pod("b", "8")),
        api.watch(
            event("ADDED", pod("c", "11")),
            event("MODIFIED", pod("a", "12")),
            event("DELETED", pod("b", "13")),
        ),
    )
    async with running(client, seen) as informer:
        await seen.until("a@7", "b@8", "c@11", "a@12", "-b@13")
        assert informer.synced.is_set()
        assert {pod.metadata.name for pod in informer.pods()} == {"a", "c"}
        known = informer.get("uid-a")
        assert known is not None
        assert known.metadata.resource_version == "12"
        assert informer.get("uid-b") is None
    first, second, watch = api.requests
    assert dict(first.query) == {"fieldSelector": "spec.nodeName=wasm-1", "limit": "500"}
    assert second.query["continue"] == "next"
    assert watch.query["resourceVersion"] == "10"
    assert watch.query["allowWatchBookmarks"] == "true"
    assert 300 <= int(watch.query["timeoutSeconds"]) <= 600


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_watch_goes_on_from_a_bookmark(api: Script, client: ApiClient, pod: MakePod, end: str) -> None:
    seen = Seen()
    api.then(
        api.pods("10"),
        api.watch(BOOKMARK, end=end),
        api.watch(event("ADDED", pod("a", "51"))),
    )
    async with running(client, seen):
        await seen.until("a@51")
    assert api.requests[2].query["resourceVersion"] == "50"


@pytest.mark.parametrize("where", ["event", "answer"])
async def test_compacted_history_is_listed_again_and_compared(
    api: Script, client: ApiClient, pod: MakePod, where: str
) -> None:
    seen = Seen()
    gone = api.watch(GONE) if where == "event" else api.status(410, "Expired")
    api.then(
        api.pods("10", pod("stays", "1"), pod("changes", "2"), pod("goes", "3")),
        gone,
        api.pods("60", pod("stays", "1"), pod("changes", "55"), pod("comes", "56")),
        api.watch(),
    )
    async with running(client, seen):
        await seen.until("stays@1", "changes@2", "goes@3", "changes@55", "comes@56", "-goes@3")
        requests = await api.asked(4)
    assert requests[3].query["resourceVersion"] == "60"


async def test_another_history_is_listed_anew(api: Script, client: ApiClient, pod: MakePod) -> None:
    seen = Seen()
    api.then(
        api.pods("100", pod("a", "90")),
        api.watch(event("ADDED", pod("c", "101")), end="hang"),
        api.pods("60", pod("a", "55")),
        api.watch(event("ADDED", pod("d", "61"))),
    )
    async with running(client, seen):
        await seen.until("a@90", "c@101")
        client.forget_history()
        await seen.until("a@90", "c@101", "a@55", "-c@101", "d@61")


async def test_list_that_expires_between_pages_is_read_in_one(
    api: Script, client: ApiClient, pod: MakePod
) -> None:
    seen = Seen()
    api.then(
        api.pods("10", pod("a", "1"), more="next"),
        api.status(410, "Expired"),
        api.pods("20", pod("a", "1"), pod("b", "2")),
        api.watch(),
    )
    async with running(client, seen):
        await seen.until("a@1", "b@2")
    assert "limit" not in api.requests[2].query
    assert "continue" not in api.requests[2].query


@pytest.mark.parametrize(
    "cut", [b'{"type": "ADDED", "obj', b"garbage\n", b'{"type": "ADDED", "object": 7}\n']
)
async def test_a_broken_line_costs_nothing_that_came_before(
    api: Script, client: ApiClient, pod: MakePod, cut: bytes
) -> None:
    seen = Seen()
    api.then(
        api.pods("10"),
        api.watch(event("ADDED", pod("a", "11")), cut=cut, end="close"),
        api.watch(event("MODIFIED", pod("a", "12"))),
    )
    async with running(client, seen):
        await seen.until("a@11", "a@12")
    assert api.requests[2].query["resourceVersion"] == "11"


async def test_a_silent_watch_is_abandoned(api: Script, client: ApiClient, pod: MakePod) -> None:
    seen = Seen()
    api.then(
        api.pods("10"),
        api.watch(event("ADDED", pod("a", "11")), end="hang"),
        api.watch(event("MODIFIED", pod("a", "12")), end="hang"),
    )
    async with running(client, seen, idle_timeout=1.0):
        await seen.until("a@11", "a@12")


async def test_failing_lists_are_tried_again(api: Script, client: ApiClient, pod: MakePod) -> None:
    seen = Seen()
    api.then(
        api.status(500, "InternalError"),
        api.status(429, "TooManyRequests", {"Retry-After": "0"}),
        api.reset,
        api.json({"no": "list"}),
        api.pods("10", pod("a", "1")),
        api.watch(),
    )
    async with running(client, seen) as informer:
        await seen.until("a@1")
        await informer.synced.wait()


async def test_busy_server_keeps_the_version_and_others_lose_it(
    api: Script, client: ApiClient, pod: MakePod
) -> None:
    seen = Seen()
    busy = {"type": "ERROR", "object": {"code": 429, "reason": "TooManyRequests", "message": "later"}}
    broken = {"type": "ERROR", "object": {"code": 500, "reason": "InternalError", "message": "etcd"}}
    api.then(
        api.pods("10"),
        api.watch(event("ADDED", pod("a", "11")), busy),
        api.watch(event("MODIFIED", pod("a", "12")), broken),
        api.pods("20", pod("a", "13")),
        api.watch(),
    )
    async with running(client, seen):
        await seen.until("a@11", "a@12", "a@13")
        requests = await api.asked(5)
    assert requests[2].query["resourceVersion"] == "11"
    assert "watch" not in requests[3].query


async def test_an_unreadable_pod_costs_no_other(
    api: Script, client: ApiClient, pod: MakePod, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    bad = pod("bad", "5", restartPolicy=7)
    api.then(
        api.pods("10", pod("bad", "4"), pod("a", "1")),
        api.watch(event("MODIFIED", bad), event("ADDED", pod("b", "11")), GONE),
        api.pods("20", bad, pod("a", "1")),
        api.watch(event("DELETED", bad)),
    )
    async with running(client, seen):
        # The pod that can no longer be read is still there: only its deletion says otherwise.
        await seen.until("bad@4", "a@1", "b@11", "-b@11", "-bad@4")
    assert "default/bad cannot be read" in caplog.text


async def test_a_pod_replaced_under_its_name_is_two_pods(
    api: Script, client: ApiClient, pod: MakePod
) -> None:
    seen = Seen()
    other = pod("a", "15")
    other["metadata"]["uid"] = "another"
    api.then(api.pods("10", pod("a", "1")), api.watch(GONE), api.pods("20", other), api.watch())
    async with running(client, seen):
        await seen.until("a@1", "a@15", "-a@1")


async def test_a_version_seen_twice_is_told_once(api: Script, client: ApiClient, pod: MakePod) -> None:
    seen = Seen()
    api.then(
        api.pods("10", pod("a", "1")),
        api.watch(
            event("ADDED", pod("a", "1")), event("DELETED", pod("never", "2")), event("ADDED", pod("b", "3"))
        ),
    )
    async with running(client, seen):
        await seen.until("a@1", "b@3")


async def test_what_a_callback_raises_ends_the_informer(api: Script, client: ApiClient, pod: MakePod) -> None:
    def refuse(pod: Pod) -> None:
        raise LookupError(pod.key)

    api.then(api.pods("10", pod("a", "1")))
    informer = PodInformer(client, "wasm-1", on_change=refuse, on_delete=refuse)
    with pytest.raises(LookupError, match="default/a"):
        await informer.run()
    assert not informer.synced.is_set()
