"""Credentials that Docker's configuration leaves to a program: `credHelpers` and `credsStore`.

It exists because `docker login` keeps passwords where the machine keeps its secrets, and registries of clouds
give short-lived ones by programs. Only the configuration of this machine's own user may name programs: no
secret of a pod does. It must not know what the credentials are for. The protocol is that of
github.com/docker/docker-credential-helpers, the choice that of docker/cli's config file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from oci import program
from oci.credentials import Credentials
from oci.keyring import Key, Keyring, KeyringError, decoded, read_config
from oci.reference import DEFAULT_REGISTRY, LEGACY_DEFAULT_REGISTRY, Reference

DEADLINE = 30.0
"""Seconds that a helper has."""

_LIMIT = 256 * 1024
_HUB = "https://index.docker.io/v1/"
_HUB_NAMES = (_HUB, LEGACY_DEFAULT_REGISTRY, DEFAULT_REGISTRY)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN_USER = "<token>"  # noqa: S105  what stands in for a user whose secret is an identity token
_NONE = b"credentials not found in native keychain"


class CredentialHelperError(Exception):
    """A helper gave nothing that can be used; the text names it, and holds nothing of what it wrote."""


@dataclass(frozen=True, slots=True)
class Helper:
    """`docker-credential-NAME`, and the name by which it knows the registry."""

    name: str
    server: str


class _Configuration(msgspec.Struct, rename="camel"):
    cred_helpers: dict[str, str] | None = None
    creds_store: str | None = None


class _Secret(msgspec.Struct, rename="pascal"):
    username: str = ""
    secret: str = ""


async def lookup(
    data: bytes, reference: Reference, environment: Mapping[str, str] = os.environ
) -> list[Credentials]:
    """What a `config.json` of this machine's own has for an image, in the order in which it is to be tried.

    A helper that is named for the registry, or for all, is asked in place of `auths`, as Docker does. Raises
    KeyringError and CredentialHelperError.
    """
    helper = helper_for(data, reference)
    if helper is None:
        keys: list[Key[None]] = read_config(data, None)
        return [key.credentials for key in Keyring(keys).lookup(reference)]
    found = await ask(helper, environment)
    return [] if found is None else [found]


def helper_for(data: bytes, reference: Reference) -> Helper | None:
    """The program that has the registry's credentials, None for the configuration. Raises KeyringError."""
    configuration = decoded(data, _Configuration)
    registry = reference.registry
    names = _HUB_NAMES if registry == DEFAULT_REGISTRY else (registry,)
    helpers = configuration.cred_helpers or {}
    chosen = next((helpers[name] for name in names if name in helpers), configuration.creds_store)
    if not chosen:
        return None
    if _NAME.fullmatch(chosen) is None:
        raise KeyringError(f"{chosen!r} is no name of a credential helper")
    return Helper(chosen, names[0])


async def ask(helper: Helper, environment: Mapping[str, str]) -> Credentials | None:
    """What the helper has; None if it has nothing. Raises CredentialHelperError."""
    command = f"docker-credential-{helper.name}"
    try:
        answer = await program.ask(
            [command, "get"], helper.server.encode(), environment=environment, deadline=DEADLINE, limit=_LIMIT
        )
    except program.ProgramError as error:
        raise CredentialHelperError(str(error)) from error
    if answer.status != 0 and answer.output.strip() == _NONE:
        return None
    if answer.status != 0:
        complaint = f": {answer.complaint}" if answer.complaint else ""
        raise CredentialHelperError(f"{command}: ended with status {answer.status}{complaint}")
    try:
        found = msgspec.json.decode(answer.output, type=_Secret)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise CredentialHelperError(f"{command}: gave no credentials") from None
    if found.username == _TOKEN_USER:
        return Credentials("", "", identity_token=found.secret)
    return Credentials(found.username, found.secret)
