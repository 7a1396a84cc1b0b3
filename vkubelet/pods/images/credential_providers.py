"""Credentials that plugins have for images: the kubelet's exec API, credentialprovider.kubelet.k8s.io/v1.

It exists because registries of clouds give credentials that live for minutes, by a program that knows the
node or the pod's service account. A plugin that fails is told of in the log, and the pull goes on without
it, as a kubelet's does; nothing of what it writes to its standard output is ever shown. It must not know what
is pulled. The rules are those of pkg/credentialprovider/plugin.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from oci import program
from oci.credentials import Credentials
from oci.durations import seconds
from oci.flights import SingleFlight
from oci.keyring import Key, Keyring, matches, place_of
from oci.reference import Reference
from vkubelet.api.objects import Pod
from vkubelet.pods.images.access import Holder, digest_of
from vkubelet.pods.images.credential_provider_config import CredentialProvider

logger = logging.getLogger(__name__)

DEADLINE = 60.0
"""Seconds that a plugin has, as under a kubelet."""

_LIMIT = 1024 * 1024
_GLOBAL = "<global>"


class ProviderFailedError(Exception):
    """A plugin gave nothing that can be used; the text holds nothing of what it wrote to its output."""


@dataclass(frozen=True, slots=True)
class Account:
    """A pod's service account, and a token of its for the plugin."""

    namespace: str
    name: str
    uid: str
    annotations: Mapping[str, str]
    token: str = field(repr=False)


class Accounts(Protocol):
    """Where service accounts and their tokens come from."""

    async def of(self, pod: Pod, audience: str) -> Account:
        """The pod's. Raises ProviderFailedError."""
        ...

    def forget(self, pod: Pod) -> None:
        """Nothing is asked for the pod any more."""
        ...


class _Login(msgspec.Struct, frozen=True):
    username: str = ""
    password: str = ""


class _Response(msgspec.Struct, rename="camel", frozen=True):
    api_version: str
    kind: str
    cache_key_type: Literal["Image", "Registry", "Global"]
    cache_duration: str | None = None
    auth: dict[str, _Login] | None = None


class CredentialProviders:
    """The node's plugins. Use from one event loop."""

    def __init__(
        self,
        providers: Sequence[CredentialProvider],
        directory: Path,
        accounts: Accounts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`directory` has the programs."""
        self._accounts = accounts
        self._plugins = [_Plugin(provider, directory, accounts, clock) for provider in providers]

    async def of(self, pod: Pod, reference: Reference) -> list[tuple[Credentials, Holder | None]]:
        """What they have for the pod's image, in the order in which it is to be tried.

        The holder is None where the credentials are the node's own: the plugin knows no service account.
        """
        image = reference.full_repository
        keys: list[Key[Account | None]] = []
        for plugin in self._plugins:
            try:
                keys += await plugin.keys(pod, image)
            except ProviderFailedError as error:
                logger.error("pod %s: no credentials for image %s: %s", pod.key, image, error)  # noqa: TRY400
        return [(key.credentials, _holder(key)) for key in Keyring(keys).lookup(reference)]

    def forget(self, pod: Pod) -> None:
        """Nothing is pulled for the pod any more."""
        self._accounts.forget(pod)


def _holder(key: Key[Account | None]) -> Holder | None:
    account = key.source
    if account is None:
        return None
    return Holder(
        namespace=account.namespace, name=account.name, uid=account.uid, digest=digest_of(key.credentials)
    )


_CacheKey = tuple[str, tuple[object, ...]]


class _Plugin:
    def __init__(
        self, provider: CredentialProvider, directory: Path, accounts: Accounts, clock: Callable[[], float]
    ) -> None:
        self._provider = provider
        self._program = directory / provider.name
        self._accounts = accounts
        self._clock = clock
        self._kept: dict[_CacheKey, tuple[float, dict[str, _Login]]] = {}
        self._flights: SingleFlight[tuple[object, ...], _Response] = SingleFlight()

    async def keys(self, pod: Pod, image: str) -> list[Key[Account | None]]:
        """What it has for the image. Raises ProviderFailedError."""
        provider = self._provider
        if not any(matches(pattern, image) for pattern in provider.match_images):
            return []
        account: Account | None = None
        if provider.token_attributes is not None:
            wanted = provider.token_attributes
            if pod.spec.service_account_name:
                account = await self._accounts.of(pod, wanted.service_account_token_audience)
                if not all(
                    key in account.annotations for key in wanted.required_service_account_annotation_keys
                ):
                    return []  # the account does not want it
            elif wanted.require_service_account:
                return []
        logins = await self._logins(image, account)
        return [
            Key(place_of(place), Credentials(login.username, login.password), account)
            for place, login in logins.items()
        ]

    async def _logins(self, image: str, account: Account | None) -> dict[str, _Login]:
        owner = self._owner(account)
        registry = image.partition("/")[0]
        self._kept = {key: kept for key, kept in self._kept.items() if kept[0] > self._clock()}
        for place in (image, registry, _GLOBAL):
            if (kept := self._kept.get((place, owner))) is not None:
                return kept[1]
        flight = (image, owner, _hash(account.token) if account is not None else "")
        response = await self._flights.run(flight, lambda: self._ask(image, account))
        logins = response.auth or {}
        lasts = self._provider.cache_seconds
        if response.cache_duration is not None:
            lasts = seconds(response.cache_duration) or 0.0
        if lasts:
            place = {"Image": image, "Registry": registry, "Global": _GLOBAL}[response.cache_key_type]
            self._kept[place, owner] = (self._clock() + lasts, logins)
        return logins

    def _owner(self, account: Account | None) -> tuple[object, ...]:
        """Whose an answer is that was given for an account: the account's, or this token's alone."""
        wanted = self._provider.token_attributes
        if account is None or wanted is None:
            return ()
        own = _hash(account.token) if wanted.cache_type == "Token" else ""
        return account.namespace, account.name, account.uid, tuple(sorted(self._told(account).items())), own

    def _told(self, account: Account) -> dict[str, str]:
        """The annotations that the plugin is told of."""
        wanted = self._provider.token_attributes
        if wanted is None:
            return {}
        names = (
            *wanted.required_service_account_annotation_keys,
            *wanted.optional_service_account_annotation_keys,
        )
        return {name: account.annotations[name] for name in names if name in account.annotations}

    async def _ask(self, image: str, account: Account | None) -> _Response:
        provider = self._provider
        request: dict[str, object] = {
            "kind": "CredentialProviderRequest",
            "apiVersion": provider.api_version,
            "image": image,
        }
        if account is not None:
            request["serviceAccountToken"] = account.token
            request["serviceAccountAnnotations"] = self._told(account)
        environment = {**os.environ, **{one.name: one.value for one in provider.env}}
        try:
            answer = await program.ask(
                [str(self._program), *provider.args],
                msgspec.json.encode(request),
                environment=environment,
                deadline=DEADLINE,
                limit=_LIMIT,
            )
        except program.ProgramError as error:
            raise ProviderFailedError(f"credential provider {error}") from error
        what = f"credential provider {self._program}"
        if answer.status != 0:
            raise ProviderFailedError(f"{what}: ended with status {answer.status}: {answer.complaint}")
        response = _read(answer.output, what)
        if response.kind != "CredentialProviderResponse" or response.api_version != provider.api_version:
            raise ProviderFailedError(
                f"{what}: its answer is no CredentialProviderResponse of its apiVersion"
            )
        self._check_echo(response, account, what)
        return response

    def _check_echo(self, response: _Response, account: Account | None, what: str) -> None:
        """A token that comes back as the password must not be kept for longer than the token's own."""
        wanted = self._provider.token_attributes
        if account is None or wanted is None or wanted.cache_type == "Token":
            return
        if any(login.password == account.token for login in (response.auth or {}).values()):
            raise ProviderFailedError(
                f"{what}: returned the service account token as the password, which needs the cacheType Token"
            )


def _read(data: bytes, what: str) -> _Response:
    try:
        response = msgspec.json.decode(data, type=_Response)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Not why: that may have a part of it.
        raise ProviderFailedError(f"{what}: its answer cannot be read") from None
    if response.cache_duration is not None and seconds(response.cache_duration) is None:
        raise ProviderFailedError(f"{what}: its answer's cacheDuration is no duration")
    return response


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
