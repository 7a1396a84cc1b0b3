"""The config maps and secrets that pods name: read when they are needed, followed while somebody waits for
news of them.

It exists so that an object costs one watch however many pods use it, and none when nobody needs to hear of
its changes; the node may read these objects by name alone. It must not know what is made of an object, and
it never writes.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import time
from collections.abc import Callable, Collection
from typing import Literal, NoReturn, Protocol, TypeAlias, overload

import msgspec

from oci.flights import SingleFlight
from vkubelet.api.asking import LAG, patiently
from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.configuration import ConfigMap, Secret
from vkubelet.api.informer import Informer

log = logging.getLogger(__name__)

Kind: TypeAlias = Literal["configmaps", "secrets"]
Reference: TypeAlias = tuple[Kind, str, str]
"""Kind, namespace, name."""

_TYPES: dict[Kind, type[ConfigMap | Secret]] = {"configmaps": ConfigMap, "secrets": Secret}
_SINGULAR: dict[Kind, str] = {"configmaps": "configmap", "secrets": "secret"}

_DEADLINE = 10.0
"""Seconds from the question to the answer."""

_WATCH_SECONDS = (1800, 3600)
"""As the kubelet's: there may be many of these watches, so they are renewed less often than others."""

# RFC 1123 subdomain: the API lets a pod name any text, but no object can have another name.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_NAME = 253


class ReferenceFailedError(Exception):
    """An object that a pod names cannot be had now; the text is the kubelet's."""


class ReferenceNotFoundError(ReferenceFailedError):
    """It does not exist: `configmap "x" not found`."""

    def __init__(self, kind: Kind, name: str) -> None:
        super().__init__(f'{_SINGULAR[kind]} "{name}" not found')


class ReferenceForbiddenError(ReferenceFailedError):
    """The API server does not let this node read it; the text is the server's."""


class ReferenceUnavailableError(ReferenceFailedError):
    """No answer, or one that is of no use; the text says which."""

    def __init__(self, kind: Kind, cause: str) -> None:
        super().__init__(f"failed to sync {_SINGULAR[kind]} cache: {cause}")


_UNSEEN = "unseen"


class References(Protocol):
    """Where the objects that pods name come from."""

    @overload
    async def get(self, kind: Literal["configmaps"], namespace: str, name: str) -> ConfigMap: ...

    @overload
    async def get(self, kind: Literal["secrets"], namespace: str, name: str) -> Secret: ...

    async def get(self, kind: Kind, namespace: str, name: str) -> ConfigMap | Secret:
        """The object as it is now. Raises ReferenceFailedError."""
        ...

    def use(
        self, owner: str, wanted: Collection[Reference], on_change: Callable[[], None] | None = None
    ) -> None:
        """`owner` uses these objects from now on, and none of those that it used before.

        `on_change` is called, from the event loop, when one of them is another than `get` last gave, has
        appeared or is gone; it must not raise. Call this before `get`, so that nothing happens in between
        unnoticed.
        """
        ...


class NoReferences:
    """For a node without an API server."""

    @overload
    async def get(self, kind: Literal["configmaps"], namespace: str, name: str) -> ConfigMap: ...

    @overload
    async def get(self, kind: Literal["secrets"], namespace: str, name: str) -> Secret: ...

    async def get(self, kind: Kind, namespace: str, name: str) -> ConfigMap | Secret:
        """Raises ReferenceFailedError, as a kubelet that is by itself does."""
        what = "configMap" if kind == "configmaps" else "secret"
        raise ReferenceFailedError(f"couldn't get {what} {namespace}/{name}, no kubeClient defined")

    def use(
        self, owner: str, wanted: Collection[Reference], on_change: Callable[[], None] | None = None
    ) -> None:
        """Nothing changes here."""


class _Followed:
    """One object that somebody uses, what is known of it, and its watch while there is one."""

    def __init__(self) -> None:
        self.users: dict[str, Callable[[], None] | None] = {}
        self.value: ConfigMap | Secret | None = None
        # The version that users were given or told of; None: that there is no such object.
        self.told: str | None = _UNSEEN
        self.informer: Informer[ConfigMap | Secret] | None = None
        self.task: asyncio.Task[NoReturn] | None = None

    @property
    def current(self) -> bool:
        """Whether `value` need not be asked for: a watch keeps it true, or it cannot change."""
        followed = self.informer is not None and self.informer.synced.is_set()
        return followed or (self.value is not None and self.value.immutable)

    @property
    def wants_watch(self) -> bool:
        if self.value is not None and self.value.immutable:
            return False
        return any(on_change is not None for on_change in self.users.values())

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
        self.task = self.informer = None


class ObjectReferences:
    """The config maps and secrets that the pods of one node use. One event loop; `run` is a task of it."""

    def __init__(
        self, client: ApiClient, *, deadline: float = _DEADLINE, backoff: Callable[[], Backoff] | None = None
    ) -> None:
        """`deadline` in seconds bounds `get`; `backoff` makes what spaces the tries of a failing watch."""
        self._client = client
        self._deadline = deadline
        self._backoff = backoff or (lambda: Backoff(0.8, 30.0))
        self._followed: dict[Reference, _Followed] = {}
        self._used: dict[str, frozenset[Reference]] = {}
        self._flights: SingleFlight[Reference, ConfigMap | Secret] = SingleFlight()
        self._group: asyncio.TaskGroup | None = None

    @overload
    async def get(self, kind: Literal["configmaps"], namespace: str, name: str) -> ConfigMap: ...

    @overload
    async def get(self, kind: Literal["secrets"], namespace: str, name: str) -> Secret: ...

    async def get(self, kind: Kind, namespace: str, name: str) -> ConfigMap | Secret:
        """The object as it is now: from its watch where there is one, else from the API server.

        Who asks at the same time shares one request. When the API server does not answer, what was last
        known of an object that is in use is given. Raises ReferenceNotFoundError, ReferenceForbiddenError
        and ReferenceUnavailableError, the last of them after the deadline at the latest.
        """
        reference = (kind, namespace, name)
        followed = self._followed.get(reference)
        if followed is not None and followed.current:
            if followed.value is None:
                raise ReferenceNotFoundError(kind, name)
            return followed.value
        if not _can_exist(name):
            raise ReferenceNotFoundError(kind, name)
        try:
            value = await self._flights.run(reference, lambda: self._fetch(kind, namespace, name))
        except ReferenceNotFoundError:
            self._note(reference, None)
            raise
        except ReferenceUnavailableError as error:
            followed = self._followed.get(reference)
            if followed is None or followed.value is None:
                self._forget_told(reference)
                raise
            log.warning("%s %s/%s as it was last known: %s", _SINGULAR[kind], namespace, name, error)
            return followed.value
        except ReferenceForbiddenError:
            self._forget_told(reference)
            raise
        self._note(reference, value)
        return value

    def use(
        self, owner: str, wanted: Collection[Reference], on_change: Callable[[], None] | None = None
    ) -> None:
        """See References. An object is watched as long as anybody is to be told of it.

        Without `on_change`, what was last known of the objects is kept for a time without API server.
        """
        wanted = frozenset(wanted)
        for reference in self._used.pop(owner, frozenset()) - wanted:
            followed = self._followed[reference]
            del followed.users[owner]
            if not followed.users:
                del self._followed[reference]
            self._settle(reference, followed)
        if not wanted:
            return
        self._used[owner] = wanted
        for reference in wanted:
            followed = self._followed.setdefault(reference, _Followed())
            followed.users[owner] = on_change
            self._settle(reference, followed)

    async def run(self) -> NoReturn:
        """Own the watches, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for reference, followed in self._followed.items():
                self._settle(reference, followed)
            await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing ends this but cancellation")

    def _settle(self, reference: Reference, followed: _Followed) -> None:
        """Begin or end the watch of an object as its users want it."""
        if not followed.wants_watch:
            followed.stop()
        elif followed.task is None and self._group is not None and _can_exist(reference[2]):
            kind, namespace, name = reference
            followed.informer = Informer(
                self._client,
                f"/api/v1/namespaces/{namespace}/{kind}",
                f"metadata.name={name}",
                _TYPES[kind],
                on_change=lambda value: self._note(reference, value),
                on_delete=lambda _: self._note(reference, None),
                on_list=lambda: self._listed(reference),
                backoff=self._backoff(),
                watch_seconds=_WATCH_SECONDS,
            )
            title = f"watch of {_SINGULAR[kind]} {name} in {namespace}"
            # It is for all who come to use the object, whoever was the first: what it logs is about no pod.
            nobody = contextvars.Context()
            followed.task = self._group.create_task(followed.informer.run(), name=title, context=nobody)

    def _forget_told(self, reference: Reference) -> None:
        """Who was given an error is told of whatever is found later."""
        followed = self._followed.get(reference)
        if followed is not None:
            followed.told = None

    def _listed(self, reference: Reference) -> None:
        """A list without the object: it may have gone between `get` and the list, which no watch tells."""
        followed = self._followed.get(reference)
        if followed is not None and followed.informer is not None and not followed.informer.items():
            self._note(reference, None)

    def _note(self, reference: Reference, value: ConfigMap | Secret | None) -> None:
        """Take in what an object is now, None when there is none, and tell its users if they saw another."""
        followed = self._followed.get(reference)
        if followed is None:
            return
        followed.value = value
        version = None if value is None else f"{value.metadata.uid} {value.metadata.resource_version}"
        before, followed.told = followed.told, version
        self._settle(reference, followed)
        if before in (version, _UNSEEN):
            return
        for on_change in tuple(followed.users.values()):
            if on_change is not None:
                on_change()

    async def _fetch(self, kind: Kind, namespace: str, name: str) -> ConfigMap | Secret:
        until = time.monotonic() + self._deadline
        path = f"/api/v1/namespaces/{namespace}/{kind}/{name}"
        try:
            # What is said is what counts: no question follows that would have no time to be answered.
            answer = await patiently(
                lambda: self._client.get(path, timeout=until - time.monotonic()),
                lag=min(LAG, self._deadline / 2),
            )
            return msgspec.json.decode(answer, type=_TYPES[kind])
        except ApiError as error:
            if error.status == 404:
                raise ReferenceNotFoundError(kind, name) from None
            if error.status == 403:
                raise ReferenceForbiddenError(error.message) from error
            raise ReferenceUnavailableError(kind, str(error)) from error
        except (ApiUnavailableError, msgspec.DecodeError) as error:
            raise ReferenceUnavailableError(kind, str(error)) from error


def _can_exist(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None
