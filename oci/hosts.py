"""Which hosts are asked for a registry's images: containerd's hosts directories, read as it reads them.

    DIRECTORY/HOST_PORT_/hosts.toml, DIRECTORY/HOST:PORT/hosts.toml, DIRECTORY/HOST/hosts.toml,
    DIRECTORY/_default/hosts.toml; the first directory that is there is the one.

It exists so that an administrator's mirrors, authorities and certificates for containerd hold here too; the
rules are those of containerd's docs/hosts.md and core/remotes/docker/config. Unlike there, a file that cannot
be used is an error, and no reason to go without it. It must not know files, requests or images.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from oci.durations import seconds
from oci.reference import DEFAULT_REGISTRY

Capability = Literal["pull", "resolve", "push", "referrers"]

ALL: Final[frozenset[Capability]] = frozenset({"pull", "resolve", "push", "referrers"})

# docker.io is a name, not a host that speaks the registry's protocol.
_ADDRESSES = {DEFAULT_REGISTRY: "registry-1.docker.io"}

DEFAULT_DIRECTORY = "_default"


class HostsError(Exception):
    """A hosts.toml that cannot be used; the text names the line, where it is known, and the key."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host to ask, and how. `url` is what a repository's name is put behind: `https://host:port/v2`.

    Files are paths. `connect_timeout` is seconds, None for the usual. `client` are certificates and their
    keys, which are in the same file when there is none.
    """

    url: str
    capabilities: frozenset[Capability] = ALL
    ca: tuple[str, ...] = ()
    client: tuple[tuple[str, str | None], ...] = ()
    skip_verify: bool = False
    header: tuple[tuple[str, str], ...] = ()
    connect_timeout: float | None = None

    @property
    def origin(self) -> str:
        """What errors call it: `https://host:port`."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def namespace(self, registry: str) -> str | None:
        """What a host is told that stands in for a registry: its name; None for the registry itself."""
        return None if urlsplit(self.url).netloc in (registry, address(registry)) else registry


def address(registry: str) -> str:
    """`host[:port]` of the registry of that name."""
    return _ADDRESSES.get(registry, registry)


def is_insecure(registry: str, insecure_registries: Collection[str]) -> bool:
    """Whether a registry is asked over plain HTTP: it is listed as `host:port`, or as `host` for any port.

    Nothing is insecure unasked, a loopback address neither.
    """
    registry = registry.lower()
    host = registry if registry.endswith("]") else registry.rpartition(":")[0] or registry
    return any(entry.lower() in (registry, host) for entry in insecure_registries)


def own_host(registry: str, *, insecure: bool) -> Host:
    """The registry itself."""
    return Host(f"{'http' if insecure else 'https'}://{address(registry)}/v2")


def directories(registry: str) -> tuple[str, ...]:
    """The names of the directories that may be a registry's, the first to be preferred."""
    host, colon, port = registry.rpartition(":")
    if colon and host and not port.endswith("]"):
        return f"{host}_{port}_", registry, DEFAULT_DIRECTORY
    return registry, DEFAULT_DIRECTORY


def from_certificates(names: list[str], directory: PurePath, own: Host) -> Host:
    """The registry itself, with the files of a directory in Docker's pattern, which has no hosts.toml."""
    return replace(
        own,
        ca=tuple(str(directory / name) for name in sorted(names) if name.endswith(".crt")),
        client=tuple(
            (str(directory / name), str(directory / key) if key in names else None)
            for name in sorted(names)
            if name.endswith(".cert")
            for key in [f"{name.removesuffix('.cert')}.key"]
        ),
    )


class _Options(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a host's table may hold, and the top of the file for the registry itself."""

    capabilities: list[Capability] = []
    ca: str | list[str] = []
    client: str | list[str | list[str]] = []
    skip_verify: bool = False
    header: dict[str, str | list[str]] = {}
    override_path: bool = False
    dial_timeout: str = ""


class _Top(_Options, forbid_unknown_fields=True, frozen=True):
    server: str = ""


def parse_hosts(data: bytes, directory: PurePath, own: Host) -> tuple[Host, ...]:
    """The hosts of a hosts.toml in `directory`, in the order in which they are asked.

    `own` is the registry itself, which is the last one unless `server` is another. Raises HostsError.
    """
    try:
        text = data.decode()
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise HostsError(f"is no TOML: {error or type(error).__name__}") from error
    tables = document.pop("host", {})
    if not isinstance(tables, dict):
        raise HostsError('host: is no table of hosts: [host."https://HOST"]')
    hosts: list[Host] = []
    for name, table in tables.items():
        where = _Where(text, name)
        options = _converted(table, _Options, where)
        hosts += _hosts(_url(name, options), options, directory, where)
    where = _Where(text)
    top = _converted(document, _Top, where)
    return (*hosts, *_hosts(_url(top.server, top) if top.server else own.url, top, directory, where))


_T = TypeVar("_T", bound=_Options)


def _converted(table: Any, kind: type[_T], where: _Where) -> _T:
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise where.error(str(error)) from error


def _hosts(url: str | None, options: _Options, directory: PurePath, where: _Where) -> list[Host]:
    """The host of a table: over TLS before plain HTTP where its port may be either's and TLS is spoken of."""
    if url is None:
        raise where.error("is no URL of a host: https://HOST[:PORT][/PATH]")
    timeout = seconds(options.dial_timeout) if options.dial_timeout else None
    if options.dial_timeout and not timeout:
        raise where.error(f"{options.dial_timeout!r} is no duration: 500ms, 1s - at `$.dial_timeout`")
    host = Host(
        url,
        frozenset(options.capabilities) or ALL,
        ca=tuple(str(directory / path) for path in _listed(options.ca)),
        client=tuple(_pair(pair, directory, where) for pair in _listed(options.client)),
        skip_verify=options.skip_verify,
        header=tuple((name, _value(name, value, where)) for name, value in options.header.items()),
        connect_timeout=timeout,
    )
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.port != 80 and (host.ca or host.client or host.skip_verify):
        return [replace(host, url=f"https{url.removeprefix('http')}"), host]
    return [host]


def _listed(value: str | list[Any]) -> list[Any]:
    return [value] if isinstance(value, str) else value


def _pair(value: str | list[str], directory: PurePath, where: _Where) -> tuple[str, str | None]:
    if isinstance(value, str):
        return str(directory / value), None
    if len(value) != 2:
        raise where.error(f"a pair is of a certificate and a key, not of {len(value)} - at `$.client`")
    return str(directory / value[0]), str(directory / value[1]) if value[1] else None


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")


def _value(name: str, value: str | list[str], where: _Where) -> str:
    """Several values of a header as one: that is the same (RFC 9110, 5.3)."""
    text = ", ".join(_listed(value))
    if _HEADER_NAME.fullmatch(name) is None or _HEADER_VALUE.fullmatch(text) is None:
        raise where.error(f"cannot be sent as a header - at `$.header.{name}`")
    return text


def _url(text: str, options: _Options) -> str | None:
    """The URL of a host's API; None when the text is none."""
    if "://" not in text:
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        is_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    is_plain = not (parts.query or parts.fragment or "@" in parts.netloc or parts.netloc.endswith(":"))
    if not is_host or not is_plain or _URL.fullmatch(text) is None:
        return None
    path = posixpath.normpath(parts.path).lstrip("/").removesuffix(".") if parts.path else ""
    path = f"/{path}" if path else ""
    if not options.override_path and not path.endswith("/v2"):
        path += "/v2"
    return f"{parts.scheme}://{parts.netloc}{path}"


_URL = re.compile(r"https?://[\x21-\x7e]+")


class _Where:
    """A table of the file, the top or a host's: finds the lines of its keys, for errors."""

    def __init__(self, text: str, host: str | None = None) -> None:
        self._text = text
        self._host = host

    def error(self, cause: str) -> HostsError:
        """With the place in msgspec's texts, ` - at `$.key``, made into a line and a key."""
        cause, _, path = cause.partition(" - at `$")
        path = path.rstrip("`").lstrip(".")
        unknown = re.search(r"unknown field `(.*)`", cause)
        key = unknown[1] if unknown else re.split(r"[.\[]", path)[0]
        line = self._line(key)
        table = "" if self._host is None else f'host."{self._host}"'
        subject = ".".join(part for part in (table, path) if part)
        return HostsError(
            ": ".join(part for part in (f"line {line}" if line else "", subject, cause) if part)
        )

    def _line(self, key: str) -> int | None:
        """The line of the table's key, or of the table itself; a guess where the text is odd."""
        inside = self._host is None
        for number, line in enumerate(self._text.splitlines(), 1):
            stripped = line.strip()
            if stripped.startswith("["):
                inside = self._host is not None and self._host in stripped
                if inside and (not key or re.search(rf"\.{re.escape(key)}\s*\]", stripped)):
                    return number
            elif inside and key and re.match(rf"[\"']?{re.escape(key)}[\"']?\s*[=.]", stripped):
                return number
        return None
