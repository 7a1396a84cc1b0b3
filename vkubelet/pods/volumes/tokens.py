"""Service account tokens for pods, by TokenRequest: bound to the pod, renewed in time, in memory only.

It exists to hold the kubelet's rules of when a token is too old (its token manager). Where a token is written
it must not know; a later agent may hand in what is there, and a token that is still good is not asked for
again.
"""

from __future__ import annotations

import base64
import dataclasses
import logging
import random
from collections.abc import Callable

import msgspec

from oci.flights import SingleFlight
from vkubelet import clock
from vkubelet.api import times
from vkubelet.api.asking import patiently
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.objects import Pod
from vkubelet.api.struct import Struct
from vkubelet.api.volumes import ServiceAccountTokenProjection
from vkubelet.pods.volumes.errors import SetUpError

logger = logging.getLogger(__name__)

_OLDEST = 24 * 3600.0
"""Seconds after which any token is renewed."""
_SPENT = 0.8
"""The part of its life after which a token is renewed."""
_JITTER = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A token, and by `vkubelet.clock`: when to renew it, and when it is worth nothing any more."""

    text: str = dataclasses.field(repr=False)
    renew_at: float
    expires_at: float
    shown_expiry: float
    """The latter by the API server's clock: for those who are told."""


class _TokenRequestSpec(Struct):
    expiration_seconds: int = 0


class _TokenRequestStatus(Struct):
    token: str = ""
    expiration_timestamp: str = ""


class _TokenRequest(Struct):
    spec: _TokenRequestSpec
    status: _TokenRequestStatus


class _BoundTo(Struct):
    name: str = ""
    uid: str = ""


class _Kubernetes(Struct):
    namespace: str = ""
    pod: _BoundTo | None = None
    serviceaccount: _BoundTo | None = None


class _Claims(msgspec.Struct):
    """What the API server's tokens say of themselves."""

    exp: int
    iat: int
    aud: list[str] | str
    kubernetes: _Kubernetes = msgspec.field(name="kubernetes.io")


_Key = tuple[str, str, int, str, str]


class Tokens:
    """The tokens of one node's pods. Use from one event loop."""

    def __init__(self, client: ApiClient | None, clock: Callable[[], float] = clock.now) -> None:
        """Without a client there are no tokens: the node has no API server."""
        self._client = client
        self._clock = clock
        self._known: dict[str, dict[_Key, Token]] = {}
        self._flights: SingleFlight[tuple[str, _Key], Token] = SingleFlight()

    async def get(self, pod: Pod, wanted: ServiceAccountTokenProjection, kept: bytes | None) -> Token:
        """A token that need not be renewed yet; one that must be and cannot, as long as it is good.

        `kept` is what was written for this pod and projection before, if anything was. Raises SetUpError.
        """
        account = pod.spec.service_account_name
        key = (pod.metadata.namespace, account, wanted.expiration_seconds, wanted.audience, pod.metadata.uid)
        known = self._known.get(pod.metadata.uid, {}).get(key)
        if known is None and kept is not None:
            known = read(kept, pod, wanted)
        now = self._clock()
        if known is not None and known.expires_at > now + wanted.expiration_seconds + _JITTER:
            known = None  # issued in the future: the time of day was set back, and how old it is nobody knows
        if known is None or known.renew_at <= now:
            known = await self._renew(pod, wanted, key, known)
        self._known.setdefault(pod.metadata.uid, {})[key] = known
        return known

    def forget(self, uid: str) -> None:
        """The pod needs its tokens no more."""
        self._known.pop(uid, None)

    async def _renew(
        self, pod: Pod, wanted: ServiceAccountTokenProjection, key: _Key, known: Token | None
    ) -> Token:
        try:
            return await self._flights.run((pod.metadata.uid, key), lambda: self._ask(pod, wanted))
        except (ApiError, ApiUnavailableError) as error:
            cause = error.message if isinstance(error, ApiError) else str(error)
            if known is None:
                raise SetUpError(f"failed to fetch token: {cause}") from error
            if known.expires_at <= self._clock():
                raise SetUpError(f"token {_shown(key)} expired and refresh failed: {cause}") from error
            logger.warning("pod %s: its token is not renewed: %s", pod.key, cause)
            return dataclasses.replace(known, renew_at=min(self._clock() + 60.0, known.expires_at))

    async def _ask(self, pod: Pod, wanted: ServiceAccountTokenProjection) -> Token:
        if self._client is None:
            raise SetUpError("failed to fetch token: this node runs without an API server, which issues them")
        meta = pod.metadata
        path = f"/api/v1/namespaces/{meta.namespace}/serviceaccounts/{pod.spec.service_account_name}/token"
        body = msgspec.json.encode(
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {
                    "audiences": [wanted.audience] if wanted.audience else [],
                    "expirationSeconds": wanted.expiration_seconds,
                    "boundObjectRef": {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "name": meta.name,
                        "uid": meta.uid,
                    },
                },
            }
        )
        # Its life counts from here, whatever the server's clock says.
        client, asked_at = self._client, self._clock()
        answer = await patiently(lambda: client.post(path, body))
        try:
            found = msgspec.json.decode(answer, type=_TokenRequest)
            shown_expiry = times.parse(found.status.expiration_timestamp)
        except (msgspec.DecodeError, ValueError) as error:
            raise ApiUnavailableError(f"API server {client.server}: TokenRequest: {error}") from error
        lifetime = float(found.spec.expiration_seconds or wanted.expiration_seconds)
        return _token(found.status.token, asked_at, lifetime, shown_expiry)


def read(data: bytes, pod: Pod, wanted: ServiceAccountTokenProjection) -> Token | None:
    """The token in a file, if it is one for this pod and projection; anything else is as good as none."""
    try:
        text = data.decode("ascii")
        payload = text.split(".")[1]
        claims = msgspec.json.decode(
            base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims
        )
    except (ValueError, IndexError, msgspec.DecodeError):
        return None
    bound, account = claims.kubernetes.pod, claims.kubernetes.serviceaccount
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if (
        bound is None
        or bound.uid != pod.metadata.uid
        or account is None
        or account.name != pod.spec.service_account_name
        or (wanted.audience and audiences != [wanted.audience])
    ):
        return None
    # The API server may let a token live longer than it was asked for; it is renewed as if it had not.
    lifetime = float(min(claims.exp - claims.iat, wanted.expiration_seconds))
    return _token(text, float(claims.iat), lifetime, claims.iat + lifetime)


def _token(text: str, issued_at: float, lifetime: float, shown_expiry: float) -> Token:
    jitter = random.uniform(0.0, _JITTER)  # noqa: S311  spreads load, guards nothing
    renew_at = min(issued_at + _SPENT * lifetime, issued_at + _OLDEST) - jitter
    return Token(text, renew_at, issued_at + lifetime, shown_expiry)


def _shown(key: _Key) -> str:
    namespace, account, seconds, audience, uid = key
    return f'"{account}"/"{namespace}"/{[audience] if audience else []}/{seconds}/{uid}'
