"""The API server's word on a caller: TokenReview tells whose a token is, SubjectAccessReview what one may.

It exists to hold the two requests, what of their answers is believed, and for how long. It must not know
HTTP requests to the kubelet API. The rules are those of k8s.io/apiserver's webhook authenticator and
authorizer, as a kubelet sets them up: no audiences of its own, so that a token must be meant for the API
server; nothing kept of a failure.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import logging
import secrets
from collections.abc import Mapping
from typing import TypeVar

import aiohttp
import msgspec

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.server.auth_attributes import Attributes
from vkubelet.server.auth_cache import AnswerCache
from vkubelet.server.auth_identity import BadCredentialsError, Identity

logger = logging.getLogger(__name__)

_TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105  a path, no secret
_ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
# The kubelet's DefaultAuthWebhookRetryBackoff: five tries, from half a second on.
_TRIES = 5
_FIRST_DELAY = 0.5
_LONGEST_DELAY = 2.0
_TRANSIENT = frozenset({429, 500, 504})
_REQUEST_TIMEOUT = 10.0


class ReviewError(Exception):
    """The API server gave no answer that can be used; the text says why and names no token."""


class _UserInfo(msgspec.Struct):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = None
    extra: dict[str, tuple[str, ...]] | None = None


class _TokenStatus(msgspec.Struct):
    authenticated: bool = False
    user: _UserInfo = msgspec.field(default_factory=_UserInfo)
    error: str = ""


class _TokenReview(msgspec.Struct):
    status: _TokenStatus = msgspec.field(default_factory=_TokenStatus)


class _AccessStatus(msgspec.Struct):
    allowed: bool = False
    denied: bool = False


class _AccessReview(msgspec.Struct):
    status: _AccessStatus = msgspec.field(default_factory=_AccessStatus)


Review = TypeVar("Review")


class TokenReviewer:
    """Who a bearer token stands for. Tokens are remembered as keyed hashes only."""

    def __init__(self, client: ApiClient, *, cache_ttl: float) -> None:
        """`cache_ttl` is the seconds for which an answer of either kind holds."""
        self._client = client
        self._key = secrets.token_bytes(32)
        self._cache: AnswerCache[bytes, Identity | None] = AnswerCache(lambda _: cache_ttl)

    async def authenticate(self, token: str) -> Identity | None:
        """The token's user, or None if the API server does not know it.

        Raises BadCredentialsError when it says what is wrong with the token, and ReviewError.
        """
        digest = hmac.digest(self._key, token.encode("utf-8", "surrogateescape"), hashlib.sha256)
        try:
            return await self._cache.get(digest, lambda: self._review(token))
        except TimeoutError as error:
            raise ReviewError("the review of a token took too long") from error

    async def _review(self, token: str) -> Identity | None:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        status = (await _ask(self._client, _TOKEN_REVIEWS, body, _TokenReview)).status
        if not status.authenticated:
            if status.error:
                raise BadCredentialsError(f"the token is refused: {status.error}")
            return None
        user = status.user
        extra = tuple(sorted((user.extra or {}).items()))
        return Identity(user.username, user.groups or (), user.uid, extra)


class AccessReviewer:
    """What a user may do."""

    def __init__(self, client: ApiClient, *, authorized_ttl: float, unauthorized_ttl: float) -> None:
        """The times are the seconds for which permission and its absence hold."""
        self._client = client
        self._cache: AnswerCache[Attributes, bool] = AnswerCache(
            lambda allowed: authorized_ttl if allowed else unauthorized_ttl
        )

    async def allows(self, attributes: Attributes) -> bool:
        """Whether the API server allows it. Raises ReviewError."""
        try:
            return await self._cache.get(attributes, lambda: self._review(attributes))
        except TimeoutError as error:
            raise ReviewError("the review of an access took too long") from error

    async def _review(self, attributes: Attributes) -> bool:
        identity = attributes.identity
        spec: dict[str, object] = {
            "resourceAttributes": {
                "verb": attributes.verb,
                "version": "v1",
                "resource": "nodes",
                "subresource": attributes.subresource,
                "name": attributes.node,
            },
            "user": identity.user,
            "groups": identity.groups,
            "uid": identity.uid,
            "extra": dict(identity.extra),
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        status = (await _ask(self._client, _ACCESS_REVIEWS, body, _AccessReview)).status
        if status.denied and status.allowed:
            raise ReviewError("the subject access review returned both allow and deny")
        return status.allowed


async def _ask(client: ApiClient, path: str, body: Mapping[str, object], kind: type[Review]) -> Review:
    """Create a review and return it with its status. Raises ReviewError."""
    encoded = msgspec.json.encode(body)
    backoff = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
    for again in reversed(range(_TRIES)):
        try:
            answer = await client.post(path, encoded, timeout=_REQUEST_TIMEOUT)
            return msgspec.json.decode(answer, type=kind)
        except (ApiError, ApiUnavailableError) as error:
            if not (again and _transient(error)):
                raise ReviewError(str(error)) from error
            logger.debug("asking again: %s", error)
        except msgspec.DecodeError as error:
            raise ReviewError(f"{path}: {error}") from error
        await asyncio.sleep(backoff.delay())
    raise AssertionError("the last try returns or raises")


def _transient(error: ApiError | ApiUnavailableError) -> bool:
    """Whether the same question may be answered in a moment: the kubelet's DefaultShouldRetry."""
    if isinstance(error, ApiError):
        return error.status in _TRANSIENT or error.retry_after is not None
    cause = error.__cause__
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return True
    return isinstance(cause, OSError) and cause.errno in {errno.ECONNRESET, errno.EPIPE}
