"""Answers to a registry's 401: bearer tokens for nobody, a password or another token; basic authentication.

It exists in place of oras' own backends, which would read the node user's Docker configuration, run its
credential helpers, and send a password to whatever host a challenge names. It must not know which pod or
user the credentials belong to.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests

from oci.credentials import Credentials
from oci.transport import finish

_TOKEN_ANSWER = 1024 * 1024
"""Bytes of a token service's answer; real ones take a few thousand."""

# scheme, or name=value where the value is a token or a quoted string (RFC 9110, 11.2 and 11.6.1)
_PART = re.compile(r'([A-Za-z0-9!#$%&\'*+.^_`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?')


class TokenServiceError(Exception):
    """No token; `status` is the token service's HTTP status, or 0 when its answer cannot be used.

    `retry_after` is its Retry-After header.
    """

    def __init__(self, cause: str, status: int = 0, retry_after: str = "") -> None:
        super().__init__(cause)
        self.status = status
        self.retry_after = retry_after


class RefusedError(Exception):
    """A 401 or 403 that nothing here answers; `response` is still unread and open."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(f"{response.status_code} {response.reason}")
        self.response = response


@dataclass(frozen=True, slots=True)
class Challenge:
    """One of a `WWW-Authenticate` header's; scheme and names are in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """All challenges of a header, in order; what is not well-formed is passed over."""
    challenges: list[Challenge] = []
    for name, quoted, plain in _PART.findall(header):
        if not quoted and not plain:
            challenges.append(Challenge(name.lower(), {}))
        elif challenges:
            challenges[-1].parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) or plain
    return challenges


class _Token(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None


class Authenticator:
    """An authentication backend for `oras.provider.Registry`, for one repository.

    `insecure` allows a token service over plain HTTP, as for the registry itself.
    """

    def __init__(self, session: requests.Session, credentials: Credentials | None, *, insecure: bool) -> None:
        self._session = session
        self._credentials = credentials
        self._insecure = insecure
        self._header: str | None = None

    def load_configs(self, container: Any, configs: list[str] | None = None) -> None:
        """Oras asks its backend to look for credentials in files; these are given, not found."""

    def header(self) -> dict[str, str]:
        """What an answered challenge left for the requests that follow."""
        return {"Authorization": self._header} if self._header else {}

    def authenticate_request(
        self, original: requests.Response, headers: dict[str, str], refresh: bool = False
    ) -> tuple[dict[str, str], bool]:
        """Answer the challenge of a 401: the headers to ask again with, and that it is worth it.

        Raises RefusedError, TokenServiceError and requests.RequestException.
        """
        if original.status_code == 401:
            for challenge in parse_challenges(original.headers.get("WWW-Authenticate", "")):
                answer = self._answer(challenge)
                if answer is not None:
                    finish(original)
                    self._header = answer
                    return {**headers, "Authorization": answer}, True
        raise RefusedError(original)

    def _answer(self, challenge: Challenge) -> str | None:
        mine = self._credentials
        if challenge.scheme == "bearer" and mine is not None and mine.registry_token:
            return f"Bearer {_sendable(mine.registry_token)}"
        if challenge.scheme == "bearer" and "realm" in challenge.parameters:
            return f"Bearer {self._token(challenge.parameters)}"
        if challenge.scheme == "basic" and mine is not None and (mine.username or mine.password):
            return _basic(mine)
        return None

    def _token(self, parameters: dict[str, str]) -> str:
        """By the distribution project's token specification; without credentials an anonymous one."""
        realm = parameters["realm"]
        try:
            parts = urlsplit(realm)
        except ValueError as error:
            raise TokenServiceError(f"the token service {realm[:200]!r} is no URL: {error}") from error
        if parts.scheme != "https" and not (self._insecure and parts.scheme == "http"):
            raise TokenServiceError(f"the token service {realm[:200]!r} is not asked: it is not over TLS")
        query: dict[str, str] = {
            name: parameters[name] for name in ("service", "scope") if name in parameters
        }
        with self._ask(realm, query) as response:
            if response.status_code != 200:
                raise TokenServiceError(
                    f"the token service {parts.hostname} answered {response.status_code} {response.reason}",
                    response.status_code,
                    response.headers.get("Retry-After", ""),
                )
            data: bytes = response.raw.read(_TOKEN_ANSWER)
        try:
            answer = msgspec.json.decode(data, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TokenServiceError(f"the token service {parts.hostname} gave no token: {error}") from error
        token = answer.token or answer.access_token
        if not token or not _can_be_sent(token):
            raise TokenServiceError(f"the token service {parts.hostname} gave no token")
        return token

    def _ask(self, realm: str, query: dict[str, str]) -> requests.Response:
        """A GET as Docker's clients do it; an identity token is OAuth 2's refresh token, which is posted."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        mine = self._credentials
        if mine is not None and mine.identity_token:
            form = {**query, "grant_type": "refresh_token", "client_id": "vkubelet"}
            return self._session.post(
                realm, data={**form, "refresh_token": mine.identity_token}, headers=headers
            )
        if mine is not None and (mine.username or mine.password):
            headers["Authorization"] = _basic(mine)
        return self._session.get(realm, params=query, headers=headers)


def _sendable(token: str) -> str:
    if not _can_be_sent(token):
        raise TokenServiceError("the registry token is no text that can be sent")
    return token


def _can_be_sent(token: str) -> bool:
    return token.isascii() and token.isprintable()


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"
