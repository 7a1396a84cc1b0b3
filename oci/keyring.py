"""Which of many credentials are for an image: Docker's configuration of registries, as a kubelet reads it.

It exists because a configuration names hosts, patterns of hosts and paths below them, and several entries
may be for one image. It must not know where a configuration comes from, nor whose it is. The rules are those
of pkg/credentialprovider.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from oci.credentials import Credentials
from oci.reference import DEFAULT_REGISTRY, LEGACY_DEFAULT_REGISTRY, Reference

Source = TypeVar("Source")
T = TypeVar("T")


class KeyringError(Exception):
    """A configuration that cannot be read; the text names the entry and holds no credentials."""


@dataclass(frozen=True, slots=True)
class Key(Generic[Source]):
    """Credentials for what is at `place`, `host[:port][/path]`, and where they come from."""

    place: str
    credentials: Credentials
    source: Source


class Keyring(Generic[Source]):
    """Keys of any number of configurations."""

    def __init__(self, keys: Iterable[Key[Source]]) -> None:
        """Of two for the same place, the first is tried first."""
        self._places: dict[str, list[Key[Source]]] = {}
        for key in keys:
            self._places.setdefault(key.place, []).append(key)

    def lookup(self, reference: Reference) -> list[Key[Source]]:
        """The keys to try for an image, those of longer paths first."""
        target = reference.full_repository
        found = [
            key
            for place in sorted(self._places, reverse=True)
            if matches(place, target)
            for key in self._places[place]
        ]
        if not found and reference.registry == DEFAULT_REGISTRY:
            return list(self._places.get(LEGACY_DEFAULT_REGISTRY, ()))
        return found


class _Entry(msgspec.Struct):
    username: str | None = None
    password: str | None = None
    auth: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None


class _Configuration(msgspec.Struct):
    auths: dict[str, _Entry | None] | None = None


def read_config(data: bytes, source: Source) -> list[Key[Source]]:
    """The keys of a `config.json`, or of a secret's `.dockerconfigjson`. Raises KeyringError."""
    return _keys(decoded(data, _Configuration).auths or {}, source)


def read_legacy_config(data: bytes, source: Source) -> list[Key[Source]]:
    """The keys of a `.dockercfg`, which is what `auths` became. Raises KeyringError."""
    return _keys(decoded(data, dict[str, _Entry | None]), source)


def decoded(data: bytes, kind: type[T]) -> T:
    """A configuration as JSON of this type. Raises KeyringError."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        text = "JSON is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise KeyringError(text) from None


def _keys(auths: dict[str, _Entry | None], source: Source) -> list[Key[Source]]:
    keys = []
    for name, entry in auths.items():
        if entry is not None:
            keys.append(Key(place_of(name), _credentials(name, entry), source))
    return keys


def _credentials(name: str, entry: _Entry) -> Credentials:
    tokens = entry.identitytoken or "", entry.registrytoken or ""
    if not entry.auth:
        return Credentials(entry.username or "", entry.password or "", *tokens)
    try:
        # Both spellings are about: with its padding, and without.
        text = entry.auth.strip().rstrip("=")
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise KeyringError(f"auths[{name!r}].auth: is no base64 of a text") from None
    username, colon, password = decoded.partition(":")
    if not colon:
        raise KeyringError(
            f"auths[{name!r}].auth: unable to parse auth field, must be formatted as "
            "base64(username:password)"
        )
    return Credentials(username, password, *tokens)


def place_of(name: str) -> str:
    """What an entry's name is for."""
    host, path = _split(name.removeprefix("https://").removeprefix("http://"))
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]  # Docker takes the registry's API for the host itself
    return host if path == "/" else host + path


def _split(place: str) -> tuple[str, str]:
    """Host with port, and path."""
    host, slash, path = place.partition("/")
    return host, slash + path


def matches(place: str, target: str) -> bool:
    """Whether a place is for `target`, `host[:port]/path`.

    Each label of a host may be a pattern of its own; a path is the beginning of what it is for.
    """
    (host, path), (target_host, target_path) = _split(place), _split(target)
    (host, _, port), (target_host, _, target_port) = host.partition(":"), target_host.partition(":")
    labels, target_labels = host.split("."), target_host.split(".")
    return (
        target_path.startswith(path)
        and port == target_port
        and len(labels) == len(target_labels)
        and all(
            # Go's patterns say [^...] for what these say [!...].
            fnmatch.fnmatchcase(one, label.replace("[^", "[!"))
            for label, one in zip(labels, target_labels, strict=True)
        )
    )
