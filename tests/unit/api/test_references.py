"""Config maps and secrets by name: one request, one watch, news to whom it concerns; over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from object_server import ObjectServer, object_server

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient
from vkubelet.api.configuration import Secret
from vkubelet.api.credentials import Credentials
from vkubelet.api.objects import ObjectMeta
from vkubelet.api.references import (
    ObjectReferences,
    Reference,
    ReferenceForbiddenError,
    ReferenceNotFoundError,
    ReferenceUnavailableError,
)

SETTINGS: Reference = ("configmaps", "default", "settings")


class Told:
    """Counts what a user was told; `times` waits for it."""

    def __init__(self) -> None:
        self.count = 0
        self._more = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._more.set()

    async def times(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.count < count:
                self._more.clear()
                await self._more.wait()
        assert self.count == count


@pytest.fixture
async def server() -> AsyncIterator[ObjectServer]:
    async with object_server() as running:
        yield running


@asynccontextmanager
async def running(url: str, deadline: float = 10.0) -> AsyncIterator[ObjectReferences]:
    client = ApiClient(Credentials(url), Path("/nowhere"))
    references = ObjectReferences(client, deadline=deadline, backoff=lambda: Backoff(0.001, 0.01))
    task = asyncio.create_task(references.run())
    try:
        yield references
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await client.close()


@pytest.fixture
async def references(server: ObjectServer) -> AsyncIterator[ObjectReferences]:
    async with running(server.url) as made:
        yield made


async def test_an_object_that_nobody_follows_is_read_each_time(
    server: ObjectServer, references: ObjectReferences
) -> None:
    server.put("configmaps", "settings", data={"a": "1"})
    assert (await references.get(*SETTINGS)).data == {"a": "1"}
    server.put("configmaps", "settings", data={"a": "2"})
    assert (await references.get(*SETTINGS)).data == {"a": "2"}
    assert server.asked == ["get settings"] * 2


async def test_who_asks_at_the_same_time_shares_a_request(
    server: ObjectServer, references: ObjectReferences
) -> None:
    server.put("configmaps", "settings", data={"a": "1"})
    answers = await asyncio.gather(*(references.get(*SETTINGS) for _ in range(500)))
    assert all(answer is answers[0] for answer in answers)
    assert server.asked == ["get settings"]


async def test_five_hundred_users_watch_an_object_once(
    server: ObjectServer, references: ObjectReferences
) -> None:
    server.put("configmaps", "settings", data={"a": "1"})
    users = [Told() for _ in range(500)]
    for number, told in enumerate(users):
        references.use(f"pod-{number}", [SETTINGS], told)
    await asyncio.gather(*(references.get(*SETTINGS) for _ in users))
    await server.until("get settings", "list settings", "watch settings")
    server.put("configmaps", "settings", data={"a": "2"})
    await users[-1].times(1)
    assert [told.count for told in users] == [1] * 500
    assert (await references.get(*SETTINGS)).data == {"a": "2"}
    assert len(server.asked) == 3
    for number in range(500):
        references.use(f"pod-{number}", [])
    await server.unwatched("configmaps", "settings")


async def test_a_missing_object_that_appears_wakes_who_waits_for_it(
    server: ObjectServer, references: ObjectReferences
) -> None:
    told = Told()
    references.use("pod", [SETTINGS], told)
    with pytest.raises(ReferenceNotFoundError, match=r'^configmap "settings" not found$'):
        await references.get(*SETTINGS)
    await server.until("get settings", "list settings", "watch settings")
    server.put("configmaps", "settings", data={"a": "1"})
    await told.times(1)
    assert (await references.get(*SETTINGS)).data == {"a": "1"}


async def test_an_object_that_appears_before_its_watch_begins_is_told_of_too(
    server: ObjectServer, references: ObjectReferences
) -> None:
    told = Told()
    references.use("pod", [SETTINGS])
    with pytest.raises(ReferenceNotFoundError):
        await references.get(*SETTINGS)
    server.put("configmaps", "settings", data={"a": "1"})
    references.use("pod", [SETTINGS], told)
    await told.times(1)


async def test_an_object_that_goes_before_its_watch_begins_is_gone(
    server: ObjectServer, references: ObjectReferences
) -> None:
    told = Told()
    server.put("configmaps", "settings", data={"a": "1"})
    references.use("pod", [SETTINGS])
    await references.get(*SETTINGS)
    server.delete("configmaps", "settings")
    references.use("pod", [SETTINGS], told)
    await told.times(1)
    with pytest.raises(ReferenceNotFoundError):
        await references.get(*SETTINGS)


async def test_a_deletion_and_a_new_object_of_the_name_are_news(
    server: ObjectServer, references: ObjectReferences
) -> None:
    told = Told()
    server.put("secrets", "key", data={"k": "YQ=="})
    references.use("pod", [("secrets", "default", "key")], told)
    assert (await references.get("secrets", "default", "key")).data == {"k": b"a"}
    await server.until("get key", "list key", "watch key")
    server.delete("secrets", "key")
    await told.times(1)
    with pytest.raises(ReferenceNotFoundError, match=r'^secret "key" not found$'):
        await references.get("secrets", "default", "key")
    server.put("secrets", "key", data={"k": "Yg=="})
    await told.times(2)
    assert (await references.get("secrets", "default", "key")).data == {"k": b"b"}


async def test_what_changed_while_the_history_was_compacted_is_told(
    server: ObjectServer, references: ObjectReferences
) -> None:
    told = Told()
    server.put("configmaps", "settings", data={"a": "1"})
    references.use("pod", [SETTINGS], told)
    await references.get(*SETTINGS)
    await server.until("get settings", "list settings", "watch settings")
    with server.silently():
        server.put("configmaps", "settings", data={"a": "2"})
    server.expire()
    await told.times(1)
    assert (await references.get(*SETTINGS)).data == {"a": "2"}


async def test_an_immutable_object_is_read_once_and_not_watched(
    server: ObjectServer, references: ObjectReferences
) -> None:
    server.put("configmaps", "settings", data={"a": "1"}, immutable=True)
    references.use("early", [SETTINGS])
    await references.get(*SETTINGS)
    references.use("late", [SETTINGS], Told())
    assert (await references.get(*SETTINGS)).immutable
    assert server.asked == ["get settings"]


async def test_an_object_that_becomes_immutable_is_not_watched_on(
    server: ObjectServer, references: ObjectReferences
) -> None:
    told = Told()
    server.put("configmaps", "settings", data={"a": "1"})
    references.use("pod", [SETTINGS], told)
    await references.get(*SETTINGS)
    await server.until("get settings", "list settings", "watch settings")
    server.put("configmaps", "settings", data={"a": "2"}, immutable=True)
    await told.times(1)
    await server.unwatched("configmaps", "settings")
    assert (await references.get(*SETTINGS)).data == {"a": "2"}


async def test_a_user_is_told_only_of_what_it_uses_now(
    server: ObjectServer, references: ObjectReferences
) -> None:
    first, second = Told(), Told()
    asked: list[str] = []
    for name, told in (("one", first), ("two", second)):
        server.put("configmaps", name, data={})
        references.use("pod", [("configmaps", "default", name)], told)
        await references.get("configmaps", "default", name)
        asked += [f"get {name}", f"list {name}", f"watch {name}"]
        await server.until(*asked)
    await server.unwatched("configmaps", "one")
    server.put("configmaps", "one", data={"a": "1"})
    server.put("configmaps", "two", data={"a": "1"})
    await second.times(1)
    assert first.count == 0


async def test_a_refusal_is_asked_again_while_the_authorizer_may_not_know_the_pod(
    server: ObjectServer, references: ObjectReferences
) -> None:
    server.put("configmaps", "settings", data={"a": "1"})
    server.failure = (403, "Forbidden")
    asking = asyncio.create_task(references.get(*SETTINGS))
    await server.until("get settings")
    server.failure = None
    assert (await asking).data == {"a": "1"}


async def test_a_refusal_that_stays_has_the_servers_words(server: ObjectServer) -> None:
    server.failure = (403, "Forbidden")
    async with running(server.url, deadline=2.0) as references:
        with pytest.raises(ReferenceForbiddenError, match=r"^said Forbidden$"):
            await references.get(*SETTINGS)


async def test_who_was_refused_is_told_when_it_is_let(server: ObjectServer) -> None:
    told = Told()
    server.put("configmaps", "settings", data={"a": "1"})
    async with running(server.url, deadline=0.2) as references:
        references.use("pod", [SETTINGS])
        await references.get(*SETTINGS)
        server.failure = (403, "Forbidden")
        # A busy machine may take longer than that to say no, and then the last version is given.
        with pytest.raises(ReferenceForbiddenError):  # noqa: PT012
            async with asyncio.timeout(30):
                while True:
                    await references.get(*SETTINGS)
        references.use("pod", [SETTINGS], told)
        server.failure = None
        await told.times(1)


async def test_who_found_no_api_server_is_told_when_it_answers(
    server: ObjectServer, references: ObjectReferences
) -> None:
    told = Told()
    server.put("configmaps", "settings", data={"a": "1"})
    server.failure = (500, "InternalError")
    references.use("pod", [SETTINGS], told)
    with pytest.raises(ReferenceUnavailableError):
        await references.get(*SETTINGS)
    server.failure = None
    await told.times(1)


async def test_without_an_api_server_the_last_version_in_use_is_given(
    server: ObjectServer, references: ObjectReferences
) -> None:
    server.put("configmaps", "settings", data={"a": "1"})
    references.use("pod", [SETTINGS])
    await references.get(*SETTINGS)
    server.failure = (500, "InternalError")
    assert (await references.get(*SETTINGS)).data == {"a": "1"}
    references.use("pod", [])
    with pytest.raises(
        ReferenceUnavailableError, match=r"^failed to sync configmap cache: 500 InternalError"
    ):
        await references.get(*SETTINGS)


async def test_an_unreachable_server_is_named() -> None:
    async with running("http://127.0.0.1:1") as references:
        with pytest.raises(ReferenceUnavailableError, match=r"^failed to sync secret cache: API server http"):
            await references.get("secrets", "default", "key")


@pytest.mark.parametrize("name", ["../../nodes", "a/b", "", "UPPER", "a,b=c", "x" * 254, ".", ".."])
async def test_a_name_that_no_object_can_have_is_asked_of_nobody(
    server: ObjectServer, references: ObjectReferences, name: str
) -> None:
    references.use("pod", [("secrets", "default", name)], Told())
    with pytest.raises(ReferenceNotFoundError):
        await references.get("secrets", "default", name)
    assert server.asked == []


def test_no_secret_shows_itself() -> None:
    secret = Secret(metadata=ObjectMeta(name="key", namespace="shop"), data={"k": b"hunter2"})
    assert repr(secret) == "Secret(shop/key)"
