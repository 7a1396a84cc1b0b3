"""The mirrors of static pods: pods in the API server that show what runs here and cannot change it.

It exists to hold when a mirror is made and deleted (the kubelet's tryReconcileMirrorPods and its clean-up of
orphaned mirrors), and to hand a static pod's status on under its mirror's name and uid. It must not know how
static pods are run, nor where they come from.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import msgspec

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.objects import Pod, PodStatus
from vkubelet.pods.fit import MIRROR_ANNOTATION as MIRROR
from vkubelet.pods.manifests.reading import Manifest
from vkubelet.pods.reporter import StatusSink
from vkubelet.pods.static.identity import HASH

logger = logging.getLogger(__name__)

RETRY_FIRST, RETRY_MOST = 1.0, 60.0
"""Seconds between two tries to make a mirror that is refused."""

_REMEMBERED = 256
"""Mirrors that are gone and of which late news is not believed."""

# What an API server fills in itself.
_SERVERS_OWN = frozenset(
    {"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "generateName"}
)


_decoder = msgspec.json.Decoder(Pod)


class Todo(enum.Enum):
    """What a static pod's mirror needs."""

    NOTHING = "nothing"
    CREATE = "create"
    DELETE = "delete"


def todo(static: Manifest | None, leaving: Manifest | None, mirror: Pod | None) -> Todo:
    """What to do about a mirror, given the static pod of its name that runs, or else one that is ending.

    A mirror that somebody deletes goes at once, and comes back as long as its pod is there to stay.
    """
    shown = static or leaving
    if mirror is None:
        return Todo.NOTHING if static is None else Todo.CREATE
    if shown is None or mirror.metadata.deletion_timestamp is not None:
        return Todo.DELETE
    matches = (mirror.metadata.annotations or {}).get(MIRROR) == shown.pod.metadata.uid
    return Todo.NOTHING if matches else Todo.DELETE


def mirror_document(manifest: Manifest, node_name: str, node_uid: str) -> dict[str, Any]:
    """The pod to create: the static pod, owned by its node, as the API server's NodeRestriction asks."""
    metadata = {key: value for key, value in manifest.document["metadata"].items() if key not in _SERVERS_OWN}
    metadata["annotations"] = metadata["annotations"] | {MIRROR: metadata["annotations"][HASH]}
    metadata["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Node", "name": node_name, "uid": node_uid, "controller": True}
    ]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": manifest.document["spec"]}


@dataclasses.dataclass(slots=True)
class _Retry:
    """A mirror that could not be made or deleted, when it is tried again, and what was said of it."""

    backoff: Backoff
    at: float = 0.0
    cause: str = ""


class MirrorPods:
    """Implements source.Mirrors; `run` makes and deletes, and never makes anything else wait."""

    def __init__(
        self,
        client: ApiClient,
        statuses: StatusSink,
        node_name: str,
        node_uid: Callable[[], str],
        complain: Callable[[str], None],
    ) -> None:
        """`statuses` sends those of API pods. `complain` tells people what the API server refuses."""
        self._client = client
        self._statuses = statuses
        self._node_name = node_name
        self._node_uid = node_uid
        self._complain = complain
        self._running: dict[str, Manifest] = {}
        self._leaving: dict[str, Manifest] = {}
        self._mirrors: dict[str, Pod] = {}
        self._gone: deque[str] = deque(maxlen=_REMEMBERED)
        self._shown: dict[str, tuple[str, PodStatus]] = {}
        self._retries: dict[str, _Retry] = {}
        self._wake = asyncio.Event()

    def show(self, manifests: Iterable[Manifest], leaving: Iterable[Manifest]) -> None:
        """See source.Mirrors."""
        self._running = {manifest.pod.key: manifest for manifest in manifests}
        self._leaving = {manifest.pod.key: manifest for manifest in leaving}
        known = self._running.keys() | self._leaving.keys()
        self._shown = {key: shown for key, shown in self._shown.items() if key in known}
        self._retries = {key: retry for key, retry in self._retries.items() if key in known}
        self._wake.set()

    def report(self, pod: Pod, status: PodStatus) -> None:
        """See source.Mirrors."""
        self._shown[pod.key] = (pod.metadata.uid, status)
        self._report(pod.key)

    def on_change(self, mirror: Pod) -> None:
        """See source.Mirrors."""
        if mirror.metadata.uid in self._gone:
            return  # an answer, or a version, from before its deletion
        before = self._mirrors.get(mirror.key)
        self._mirrors[mirror.key] = mirror
        if before is None or before.metadata.uid != mirror.metadata.uid:
            self._retries.pop(mirror.key, None)
            self._report(mirror.key)
        self._wake.set()

    def on_delete(self, mirror: Pod) -> None:
        """See source.Mirrors."""
        self._statuses.forget(mirror.metadata.uid)
        self._gone.append(mirror.metadata.uid)
        known = self._mirrors.get(mirror.key)
        if known is not None and known.metadata.uid == mirror.metadata.uid:
            del self._mirrors[mirror.key]
            self._wake.set()

    def static_uid(self, uid: str) -> str:
        """The uid of the static pod whose mirror has this one; any other uid as it is."""
        for mirror in self._mirrors.values():
            if mirror.metadata.uid == uid:
                return (mirror.metadata.annotations or {}).get(MIRROR, uid)
        return uid

    async def run(self) -> NoReturn:
        """Make and delete mirrors until cancelled. What is read and what is known here must have settled."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            for key in sorted(self._running.keys() | self._mirrors.keys()):
                retry = self._retries.get(key)
                if retry is None or retry.at <= loop.time():
                    await self._reconcile(key)
            again = min((retry.at for retry in self._retries.values()), default=None)
            try:
                async with asyncio.timeout_at(again):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _reconcile(self, key: str) -> None:
        static, mirror = self._running.get(key), self._mirrors.get(key)
        needed = todo(static, self._leaving.get(key), mirror)
        try:
            if needed is Todo.DELETE and mirror is not None:
                await self._delete(mirror)
            elif needed is Todo.CREATE and static is not None:
                await self._create(static)
        except (ApiError, ApiUnavailableError, msgspec.DecodeError) as error:
            self._put_off(key, str(error), error.retry_after if isinstance(error, ApiError) else None)
        else:
            self._retries.pop(key, None)

    async def _create(self, static: Manifest) -> None:
        meta = static.pod.metadata
        body = msgspec.json.encode(mirror_document(static, self._node_name, self._node_uid()))
        path = f"/api/v1/namespaces/{meta.namespace}/pods"
        logger.info("making a mirror of static pod %s", static.pod.key)
        try:
            answer = await self._client.post(path, body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            # A former try whose answer was lost may have made it; any other pod of the name is in the way.
            answer = await self._client.get(f"{path}/{meta.name}")
            found = _decoder.decode(answer)
            if (found.metadata.annotations or {}).get(MIRROR) != meta.uid:
                raise
        self._took(_decoder.decode(answer))

    def _took(self, mirror: Pod) -> None:
        """A mirror exists, as an answer says; the informer may have told of it before."""
        known = self._mirrors.get(mirror.key)
        if known is None or known.metadata.uid != mirror.metadata.uid:
            self.on_change(mirror)

    async def _delete(self, mirror: Pod) -> None:
        meta = mirror.metadata
        logger.info("deleting mirror %s", mirror.key)
        options = f'{{"gracePeriodSeconds":0,"preconditions":{{"uid":"{meta.uid}"}}}}'
        try:
            await self._client.delete(
                f"/api/v1/namespaces/{meta.namespace}/pods/{meta.name}", body=options.encode()
            )
        except ApiError as error:
            if error.status not in (404, 409):
                raise
        # What is known of it is worth nothing any more: the informer's word on it is on its way.
        self.on_delete(mirror)

    def _put_off(self, key: str, cause: str, retry_after: float | None) -> None:
        retry = self._retries.setdefault(key, _Retry(Backoff(RETRY_FIRST, RETRY_MOST)))
        retry.at = asyncio.get_running_loop().time() + retry.backoff.delay(retry_after)
        if retry.cause != cause:
            retry.cause = cause
            self._complain(f"mirror of static pod {key}: {cause}")

    def _report(self, key: str) -> None:
        """Send the status of a static pod for its mirror, if that is the mirror of this very pod."""
        mirror, shown = self._mirrors.get(key), self._shown.get(key)
        if mirror is None or shown is None or mirror.metadata.deletion_timestamp is not None:
            return
        uid, status = shown
        if (mirror.metadata.annotations or {}).get(MIRROR) == uid:
            self._statuses.report(mirror, _observed(status, mirror.metadata.generation))


def _observed(status: PodStatus, generation: int) -> PodStatus:
    """The status as one of the mirror's own generation: a static pod has none."""
    conditions = [
        msgspec.structs.replace(condition, observed_generation=generation)
        for condition in status.conditions or ()
    ]
    return msgspec.structs.replace(status, conditions=conditions, observed_generation=generation)
