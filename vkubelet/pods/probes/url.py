"""URLs as Go's net/url reads and writes them; pure.

It exists because a probe's path is any text and a kubelet takes it as Go does: what can be read as a
reference is one (`/x?y=z`), and what cannot is a path whole, with what has no place in one escaped. Python's
own urllib reads and escapes otherwise. It must not know what a URL is for.
"""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import quote, unquote_to_bytes, urljoin

PORTS = {"http": 80, "https": 443}

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_AS_IT_IS = re.compile(r"(?:[A-Za-z0-9\-_.~!$&'()*+,;=:@/\[\]]|%[0-9A-Fa-f]{2})*")
_HOST = re.compile(r"(?:[A-Za-z0-9\-_.~!$&'()*+,;=<>\"]|[^\x00-\x7f])*")
_ADDRESS = re.compile(r"\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]")
_AUTHORITY = re.compile(r"(?:[^@/?#]*@)?(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]*))?")


class UrlError(ValueError):
    """It is no URL; the text names it and says why, as Go's does."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f'parse "{url}": {why}')


@dataclasses.dataclass(frozen=True, slots=True)
class Url:
    """A URL with a host. `host` has the brackets of an IPv6 address; `port` is None where none is named.

    `path` is escaped; `query` is what follows the question mark, None without one.
    """

    scheme: str
    host: str
    port: int | None = None
    path: str = ""
    query: str | None = None
    fragment: str = ""

    def __str__(self) -> str:
        """As messages name it."""
        query = "" if self.query is None else f"?{self.query}"
        fragment = f"#{self.fragment}" if self.fragment else ""
        return f"{self.scheme}://{self.authority}{self.path}{query}{fragment}"

    @property
    def authority(self) -> str:
        """What the Host header says."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def hostname(self) -> str:
        """The host without brackets: what is connected to."""
        return self.host.strip("[]")

    @property
    def target(self) -> str:
        """What the request line says."""
        return (self.path or "/") + ("" if self.query is None else f"?{self.query}")


def with_path(scheme: str, hostname: str, port: int, path: str) -> Url:
    """The URL of a probe: `path` read as a reference whose host does not count. Raises UrlError."""
    host = f"[{hostname}]" if ":" in hostname else hostname
    try:
        found, query, fragment = _reference(path)
    except UrlError:
        found, query, fragment = _escaped(path.replace("%", "%25").replace("?", "%3F")), None, ""
    url = Url(scheme, host, port, found, query, fragment)
    if not _is_host(host):
        raise UrlError(str(url), "invalid host")
    if found and not found.startswith("/"):
        return dataclasses.replace(url, path=f"/{found}")
    return url


def join(base: Url, reference: str) -> Url:
    """The URL that `reference` means on a page of `base`. Raises UrlError."""
    _reference(reference)
    joined = urljoin(str(base), reference)
    scheme, separator, rest = joined.partition("://")
    if not separator:
        # Such as `mailto:x`: a URL without a host, which leads nowhere.
        return Url(joined.partition(":")[0], "")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    read = _AUTHORITY.fullmatch(authority)
    if read is None or not _is_host(read["host"]) or int(read["port"] or 0) > 65535:
        raise UrlError(reference, "invalid host")
    path, query, fragment = _reference(rest[len(authority) :])
    port = int(read["port"]) if read["port"] else None
    return Url(scheme.lower(), read["host"], port, path, query, fragment)


def _is_host(host: str) -> bool:
    return bool(_HOST.fullmatch(host) or _ADDRESS.fullmatch(host))


def _reference(text: str) -> tuple[str, str | None, str]:
    """Path, query and fragment of a reference, its scheme and host left out. Raises UrlError."""
    if _CONTROL.search(text):
        raise UrlError(text, "net/url: invalid control character in URL")
    rest, _, fragment = text.partition("#")
    scheme = _SCHEME.match(rest)
    rest = rest[scheme.end() :] if scheme else rest
    rest, question, query = rest.partition("?")
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        read = _AUTHORITY.fullmatch(authority)
        if read is None or not _is_host(read["host"]):
            raise UrlError(text, "invalid host")
        rest = slash + path
    elif not scheme and ":" in rest.partition("/")[0]:
        why = (
            "missing protocol scheme"
            if rest.startswith(":")
            else "first path segment in URL cannot contain colon"
        )
        raise UrlError(text, why)
    for part in (rest, fragment):
        bad = _BAD_ESCAPE.search(part)
        if bad:
            raise UrlError(text, f'invalid URL escape "{part[bad.start() : bad.start() + 3]}"')
    return _escaped(rest), query if question else None, fragment


def _escaped(path: str) -> str:
    """A path whose escapes are valid, as a request may carry it."""
    return path if _AS_IT_IS.fullmatch(path) else quote(unquote_to_bytes(path), safe="$&+,/:;=@-_.~")
