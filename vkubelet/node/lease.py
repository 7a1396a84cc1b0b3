"""The node's lease: the heartbeat by which the control plane knows that this node lives (KEP-589).

It exists apart from the node's status because it must go on whatever happens to that. The rules are the
kubelet's: renew every quarter of the duration, update from the last version known, read only after a
conflict, create what was deleted. It must not know why the node is ready or not.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import msgspec

from vkubelet.api import times
from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.objects import ObjectMeta
from vkubelet.api.struct import Struct
from vkubelet.api.times import rfc3339_micro

log = logging.getLogger(__name__)

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
RENEW_FRACTION = 0.25
JITTER = 0.04
_TRIES = 5
_REQUEST_TIMEOUT = 10.0
_LEAST_LATER = 0.001

Sleep = Callable[[float], Awaitable[None]]


class LeaseSpec(Struct):
    """spec, as far as it is read."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    renew_time: str | None = None


class Lease(Struct):
    """A Lease of coordination.k8s.io/v1."""

    metadata: ObjectMeta
    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)


decoder = msgspec.json.Decoder(Lease)


def document(
    node_name: str, node_uid: str, duration: int, now: float, resource_version: str | None
) -> dict[str, Any]:
    """The lease to create (no `resource_version`) or to update, renewed at `now` (epoch seconds).

    It belongs to the node object, so that the garbage collector takes it along with its node.
    """
    metadata: dict[str, Any] = {
        "name": node_name,
        "namespace": "kube-node-lease",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node_name, "uid": node_uid}],
    }
    if resource_version is not None:
        metadata["resourceVersion"] = resource_version
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {
            "holderIdentity": node_name,
            "leaseDurationSeconds": duration,
            "renewTime": rfc3339_micro(now),
        },
    }


class LeaseKeeper:
    """Renews the lease of the node whose object has the uid that `node_uid` tells."""

    def __init__(
        self,
        client: ApiClient,
        node_name: str,
        duration: int,
        node_uid: Callable[[], str],
        *,
        clock: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._client = client
        self._name = node_name
        self._duration = duration
        self._node_uid = node_uid
        self._clock = clock
        self._sleep = sleep
        self._resource_version: str | None = None
        self._latest = 0
        self._renewed = 0.0
        self._backoff = Backoff(0.2, 7.0)

    async def run(self) -> NoReturn:
        """Renew for as long as the node lives; ends only by cancellation."""
        while True:
            await self.renew()
            interval = self._duration * RENEW_FRACTION
            await self._sleep(interval * random.uniform(1, 1 + JITTER))  # noqa: S311

    async def renew(self) -> bool:
        """One heartbeat, with the kubelet's five tries. Whether it succeeded; the failures are logged."""
        for attempt in range(_TRIES):
            try:
                await self._put_or_create()
            except ApiError as error:
                if error.status in (404, 409):
                    # Somebody else wrote it or took it away: what was known of it is worth nothing.
                    self._resource_version = None
                log.info("lease not renewed, try %d of %d: %s", attempt + 1, _TRIES, error)
                await self._sleep(self._backoff.delay(error.retry_after))
            except (ApiUnavailableError, msgspec.DecodeError) as error:
                log.warning("lease not renewed, try %d of %d: %s", attempt + 1, _TRIES, error)
                await self._sleep(self._backoff.delay())
            else:
                self._backoff.reset()
                return True
        return False

    async def _put_or_create(self) -> None:
        if self._resource_version is None:
            self._resource_version = await self._read()
        uid = self._node_uid()
        body = msgspec.json.encode(
            document(self._name, uid, self._duration, self._next_renewal(), self._resource_version)
        )
        if self._resource_version is None:
            answer = await self._client.post(LEASES, body, timeout=_REQUEST_TIMEOUT)
        else:
            answer = await self._client.put(f"{LEASES}/{self._name}", body, timeout=_REQUEST_TIMEOUT)
        self._resource_version = self._version(answer)

    def _next_renewal(self) -> float:
        """Now, or where the clock was set back, just after the renewal before.

        A control plane takes a lease for renewed when it is of a later time, whatever time that is.
        """
        self._renewed = max(self._clock(), self._renewed + _LEAST_LATER)
        return self._renewed

    def _version(self, answer: bytes) -> str:
        """The lease's version now. One before the last known is of a server restored from a backup.

        Versions can be compared (KEP-5504). Nothing else tells of a restored server: a watch from a version
        that is still to come is silent until it comes. All that was read of such a server is of no use.
        """
        lease = decoder.decode(answer)
        version = lease.metadata.resource_version
        if lease.spec.renew_time is not None:
            self._renewed = max(self._renewed, times.parse(lease.spec.renew_time))
        if version.isdecimal():
            before, self._latest = self._latest, int(version)
            if self._latest < before:
                log.warning("the API server has gone back from version %d: all is read anew", before)
                self._client.forget_history()
        return version

    async def _read(self) -> str | None:
        try:
            answer = await self._client.get(f"{LEASES}/{self._name}", timeout=_REQUEST_TIMEOUT)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return self._version(answer)
