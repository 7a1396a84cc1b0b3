"""The HTTP request that an httpGet makes: its URL, its headers, its bytes; pure.

It exists to hold the kubelet's rules (pkg/probe/http/request.go) and what Go's client writes for them. It
must not know what is done with the answer.
"""

from __future__ import annotations

import dataclasses
import functools
import re

from vkubelet.api.containers import Container, HTTPGetAction, IntOrString
from vkubelet.pods.probes.url import Url, with_path

VERSION = "1.37"
"""The Kubernetes version whose kubelet this node speaks as."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_WRITTEN_APART = frozenset({"Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer"})


class BadProbeError(Exception):
    """The probe or hook cannot be made as its spec says it; the text is a kubelet's."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A GET. `host` is the Host header where it is not the URL's own, `headers` all others but that one.

    What is sent is worked out once: a probe sends the same thing each time.
    """

    url: Url
    host: str
    headers: tuple[tuple[str, str], ...]

    @functools.cached_property
    def fault(self) -> str | None:
        """Why it cannot be sent; None when it can."""
        for name, value in self.headers:
            if not _TOKEN.fullmatch(name):
                return f'net/http: invalid header field name "{name}"'
            if _BAD_VALUE.search(value):
                return f'net/http: invalid header field value for "{name}"'
        return "http: invalid Host header" if re.search(r"[^!-~]", self.host) else None

    @functools.cached_property
    def encoded(self) -> bytes:
        """What is sent. The connection serves this request alone."""
        agent = next((value for name, value in self.headers if name == "User-Agent"), "")
        lines = [f"GET {self.url.target} HTTP/1.1", f"Host: {self.host or self.url.authority}"]
        if agent:
            lines.append(f"User-Agent: {agent.strip()}")
        own = sorted(
            (pair for pair in self.headers if pair[0] not in _WRITTEN_APART), key=lambda pair: pair[0]
        )
        lines += [f"{name}: {value.strip()}" for name, value in own]
        connection = {
            word.strip().lower() for name, value in own if name == "Connection" for word in value.split(",")
        }
        if not connection & {"close", "upgrade"}:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode()

    def redirected(self, to: Url, *, relative: bool) -> Request:
        """The request that follows a redirection; what named the host stays where the host does."""
        headers = [pair for pair in self.headers if pair[0] != "Referer"]
        if not (self.url.scheme == "https" and to.scheme == "http"):
            headers.append(("Referer", str(self.url)))
        return Request(to, self.host if relative else "", tuple(headers))


def http_get(action: HTTPGetAction, container: Container, host: str, purpose: str) -> Request:
    """The request of an httpGet in `container`, to `host` unless it names one itself. Raises BadProbeError.

    `purpose` is `probe` or `lifecycle`: who asks, as the User-Agent tells.
    """
    scheme = action.scheme.lower() or "http"
    port = resolve_port(action.port, container)
    try:
        url = with_path(scheme, action.host or host, port, action.path)
    except ValueError as error:
        raise BadProbeError(str(error)) from error
    headers = [(_canonical(header.name), header.value) for header in action.http_headers or ()]
    names = {name for name, _ in headers}
    if "User-Agent" not in names:
        headers.append(("User-Agent", f"kube-{purpose}/{VERSION}"))
    if "Accept" not in names:
        headers.append(("Accept", "*/*"))
    elif not next(value for name, value in headers if name == "Accept"):
        headers = [pair for pair in headers if pair[0] != "Accept"]
    own_host = next((value for name, value in headers if name == "Host"), "")
    return Request(url, own_host, tuple(pair for pair in headers if pair[0] != "Host"))


def resolve_port(port: IntOrString, container: Container) -> int:
    """The number of a port that may be named. Raises BadProbeError."""
    number = port
    if isinstance(port, str):
        found = [known.container_port for known in container.ports or () if known.name == port]
        if not found:
            raise BadProbeError(f'port "{port}" not found')
        number = found[0]
    if not isinstance(number, int) or not 0 < number < 65536:
        raise BadProbeError(f"invalid port number: {number}")
    return number


def _canonical(name: str) -> str:
    """The name as Go spells it: a capital after each hyphen. What is no header's name stays."""
    return "-".join(part.capitalize() for part in name.split("-")) if _TOKEN.fullmatch(name) else name
