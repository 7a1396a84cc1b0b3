"""Objects as the API server sees them, kept current by a list and a watch: the node's pods, the node itself.

It exists so that the rest of the agent sees one thing only: an object changed, an object is gone. What a
network does to a watch (an end, a cut line, a compacted history, a silence) ends here. It must not know what
is done with an object, and it never writes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Generic, NoReturn, Protocol, TypeVar

import msgspec

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.objects import ObjectMeta, Pod, Status
from vkubelet.api.struct import Struct

log = logging.getLogger(__name__)

_PAGE = 500
_LIST_TIMEOUT = 60.0
_IDLE_TIMEOUT = 180.0
"""Bookmarks come about once a minute, so that three minutes of silence are a dead or hung server."""

_WATCH_SECONDS = (300, 600)
"""After how long the server is asked to end a watch: client-go's bounds."""

_GONE = 410


class _ListMeta(Struct):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _RawList(Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _WatchEvent(Struct):
    type: str
    object: msgspec.Raw


class _Partial(Struct):
    """What is read of a bookmark, and of an object that cannot be read whole."""

    metadata: ObjectMeta


class _Meta(Protocol):
    @property
    def resource_version(self) -> str: ...


class _Object(Protocol):
    @property
    def metadata(self) -> _Meta: ...


Item = TypeVar("Item", bound=_Object)

_list_decoder = msgspec.json.Decoder(_RawList)
_event_decoder = msgspec.json.Decoder(_WatchEvent)
_partial_decoder = msgspec.json.Decoder(_Partial)
_status_decoder = msgspec.json.Decoder(Status)


class Informer(Generic[Item]):
    """A cache of the objects at `path` that match `selector` (a field selector), read as `kind`.

    It calls `on_change` and `on_delete` from inside `run`: a new or changed object is handed to `on_change`
    once a version; one that was deleted, or that a new list no longer holds, to `on_delete`, once, in the
    last version known. An object replaced by another of its name is two: they are told apart by uid. When a
    complete list has been delivered, `on_list` is called. What the callbacks raise ends `run`.
    """

    def __init__(
        self,
        client: ApiClient,
        path: str,
        selector: str,
        kind: type[Item],
        *,
        on_change: Callable[[Item], None],
        on_delete: Callable[[Item], None],
        on_list: Callable[[], None] | None = None,
        backoff: Backoff | None = None,
        idle_timeout: float = _IDLE_TIMEOUT,
        watch_seconds: tuple[int, int] = _WATCH_SECONDS,
    ) -> None:
        self._client = client
        self._path = path
        self._selector = selector
        self._decoder = msgspec.json.Decoder(kind)
        self._on_change = on_change
        self._on_delete = on_delete
        self._on_list = on_list
        # client-go's reflector: 0.8 s doubling to 30 s.
        self._backoff = backoff or Backoff(0.8, 30.0)
        self._idle_timeout = idle_timeout
        self._watch_seconds = watch_seconds
        self._items: dict[str, Item] = {}
        self._version: str | None = None
        self._history = client.history
        self.synced = asyncio.Event()
        """Set once the first complete list has been delivered."""

    def get(self, uid: str) -> Item | None:
        """The last version known of the object with this uid."""
        return self._items.get(uid)

    def items(self) -> Iterable[Item]:
        """All objects known, as a copy that stays valid across an await."""
        return tuple(self._items.values())

    async def run(self) -> NoReturn:
        """Keep the cache current; ends only by cancellation or by what a callback raises."""
        while True:
            pause: float | None = None
            try:
                if self._version is None or self._history != self._client.history:
                    self._history = self._client.history
                    self._version = None
                    self._version = await self._list()
                    self.synced.set()
                    if self._on_list is not None:
                        self._on_list()
                # A server that accepts watches and ends them at once must not be asked in a tight loop.
                if not await self._watch(self._version):
                    pause = self._backoff.delay()
            except ApiUnavailableError as error:
                # Nothing is missed: the next watch goes on from the last version that was taken in.
                log.warning("%s of %s not listed or watched: %s", self._selector, self._path, error)
                pause = self._backoff.delay()
            except ApiError as error:
                pause = self._backoff.delay(error.retry_after)
                if error.status == _GONE:
                    log.info("history of %s was compacted, listing again: %s", self._path, error)
                else:
                    log.warning("%s of %s not listed or watched: %s", self._selector, self._path, error)
                if error.status != 429:
                    self._version = None
            if pause is not None:
                await asyncio.sleep(pause)

    async def _list(self) -> str:
        """Read all pages, then deliver the differences. Returns the list's resource version."""
        pages = await self._pages(_PAGE)
        if pages is None:
            # The history was compacted between two pages: one page with everything cannot expire.
            pages = await self._pages(None)
            if pages is None:
                raise ApiError(_GONE, "Expired", "the list expired while it was read")
        version, items = pages
        present: set[str] = set()
        for raw in items:
            uid = self._observe(raw)
            if uid is not None:
                present.add(uid)
        for uid in self._items.keys() - present:
            self._on_delete(self._items.pop(uid))
        return version

    async def _pages(self, limit: int | None) -> tuple[str, list[msgspec.Raw]] | None:
        """The list's version and items; None when a later page had expired."""
        # Without resourceVersion the list is the latest state, never an older one than was seen before.
        query = {"fieldSelector": self._selector}
        if limit is not None:
            query["limit"] = str(limit)
        items: list[msgspec.Raw] = []
        while True:
            try:
                answer = await self._client.get(self._path, query=query, timeout=_LIST_TIMEOUT)
            except ApiError as error:
                if error.status == _GONE and "continue" in query:
                    return None
                raise
            try:
                page = _list_decoder.decode(answer)
            except msgspec.DecodeError as error:
                raise ApiUnavailableError(f"{self._client.server}: list of {self._path}: {error}") from error
            items += page.items or ()
            if not page.metadata.continue_:
                return page.metadata.resource_version, items
            query["continue"] = page.metadata.continue_

    async def _watch(self, version: str) -> bool:
        """Follow the changes since `version` until the watch ends; whether it was of any use."""
        # Spread over time, so that not all watches of a cluster end together.
        seconds = random.randint(*self._watch_seconds)  # noqa: S311
        query = {
            "watch": "1",
            "fieldSelector": self._selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        heard = False
        started = time.monotonic()
        async with aclosing(self._client.watch(self._path, query, idle_timeout=self._idle_timeout)) as lines:
            async for line in lines:
                self._apply(line)
                self._backoff.reset()
                heard = True
        return heard or time.monotonic() >= started + seconds / 2

    def _apply(self, line: bytes) -> None:
        """Take in one line of the watch. Raises what the server reported in it, or that it is no event."""
        try:
            event = _event_decoder.decode(line)
            if event.type == "ERROR":
                status = _status_decoder.decode(event.object)
                raise ApiError(status.code, status.reason, status.message)
            metadata = _partial_decoder.decode(event.object).metadata
        except msgspec.DecodeError as error:
            raise ApiUnavailableError(f"{self._client.server}: not a watch event: {error}") from error
        if event.type == "DELETED":
            item = self._items.pop(metadata.uid, None)
            if item is not None:
                self._on_delete(self._decode(event.object, metadata) or item)
        elif event.type in ("ADDED", "MODIFIED"):
            self._observe(event.object)
        elif event.type != "BOOKMARK":
            log.warning("watch of %s: unknown event type %r", self._path, event.type)
        self._version = metadata.resource_version or self._version

    def _observe(self, raw: msgspec.Raw) -> str | None:
        """Take in an object's present version; its uid, or None when not even that could be read."""
        try:
            metadata = _partial_decoder.decode(raw).metadata
        except msgspec.DecodeError:
            log.exception("an object of %s has no readable metadata", self._path)
            return None
        known = self._items.get(metadata.uid)
        if known is None or known.metadata.resource_version != metadata.resource_version:
            item = self._decode(raw, metadata)
            if item is not None:
                self._items[metadata.uid] = item
                self._on_change(item)
        return metadata.uid

    def _decode(self, raw: msgspec.Raw, metadata: ObjectMeta) -> Item | None:
        """One unreadable object costs its own change, never the others'."""
        try:
            return self._decoder.decode(raw)
        except msgspec.DecodeError as error:
            name = f"{metadata.namespace}/{metadata.name}"
            log.error("%s: %s cannot be read: %s", self._path, name, error)  # noqa: TRY400
            return None


class PodInformer(Informer[Pod]):
    """The pods that are scheduled to a node."""

    def __init__(
        self,
        client: ApiClient,
        node_name: str,
        *,
        on_change: Callable[[Pod], None],
        on_delete: Callable[[Pod], None],
        backoff: Backoff | None = None,
        idle_timeout: float = _IDLE_TIMEOUT,
    ) -> None:
        super().__init__(
            client,
            "/api/v1/pods",
            f"spec.nodeName={node_name}",
            Pod,
            on_change=on_change,
            on_delete=on_delete,
            backoff=backoff,
            idle_timeout=idle_timeout,
        )

    def pods(self) -> Iterable[Pod]:
        """All pods known, as a copy that stays valid across an await."""
        return self.items()
