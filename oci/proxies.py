"""Which proxy a request goes through: what the environment says, read as Go programs read it.

It exists because the node's other programs read the same variables by golang.org/x/net/http/httpproxy, and
requests reads them by other rules. It must not know registries.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}
"""Those that a URL of the scheme leads to unless it says another."""


class ProxyError(Exception):
    """A proxy's URL that cannot be used; the text names the variable and no password."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies for plain HTTP and for TLS, as URLs, and what needs none, as NO_PROXY lists it."""

    http: str = ""
    https: str = ""
    direct: str = ""

    def of(self, url: str) -> str | None:
        """The proxy for a URL, None for none. Raises ProxyError."""
        parts = urlsplit(url)
        variable, proxy = ("HTTP_PROXY", self.http) if parts.scheme == "http" else ("HTTPS_PROXY", self.https)
        host = (parts.hostname or "").rstrip(".")
        if not proxy or _is_direct(host, parts.port or PORTS.get(parts.scheme, 0), self.direct):
            return None
        return _checked(proxy, variable)


def from_environment(environment: Mapping[str, str]) -> Proxies:
    """HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or the same in small letters."""
    http, https, direct = (
        environment.get(name) or environment.get(name.lower()) or ""
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    )
    return Proxies(http, https, direct)


def without_user(proxy: str) -> str:
    """What may be shown of a proxy: `host:port`."""
    return urlsplit(proxy).netloc.rpartition("@")[2]


def _checked(proxy: str, variable: str) -> str:
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        is_usable = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ProxyError(f"{variable} is no URL of a proxy that is spoken to over http or https")
    return proxy


def _is_direct(host: str, port: int, rules: str) -> bool:
    """Whether a host is on this machine, or is listed."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        ip = None
    if host == "localhost" or (ip is not None and ip.is_loopback):
        return True
    return any(_matches(rule.strip().lower(), host, ip, port) for rule in rules.split(","))


def _matches(
    rule: str, host: str, ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int
) -> bool:
    """`*`, an address, a network, or a domain with what is below it: only that when it begins with a dot."""
    if not rule:
        return False
    if rule == "*":
        return True
    try:
        network = ipaddress.ip_network(rule, strict=False)
    except ValueError:
        pass  # it is a name, or has a port
    else:
        return ip is not None and ip in network
    name, colon, wanted = rule.rpartition(":")
    if colon and (wanted.isdecimal() or not wanted) and not name.endswith(":"):
        if wanted and int(wanted) != port:
            return False
        rule = name
    rule = rule.removeprefix("[").removesuffix("]").removeprefix("*")
    if ip is not None:
        return rule == str(ip)
    return host.endswith(rule) if rule.startswith(".") else host == rule or host.endswith(f".{rule}")
