"""Who is calling: the identity that a client certificate proves.

It exists so that the one rule of authentication is a pure function. TLS has already verified the chain
against the cluster's CA when a certificate gets here; without one there is no identity and the request is
refused, as by a kubelet with anonymous access off. It must know neither sockets nor requests.
"""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """A caller as Kubernetes names one."""

    user: str
    groups: tuple[str, ...]


def identify(certificate: Mapping[str, Any] | None, now: float) -> Identity | None:
    """The identity of a verified peer certificate, as `SSLSocket.getpeercert()` describes it, or None.

    Kubernetes' rule: the user is the subject's common name, the groups are its organizations. `now` is
    seconds since the epoch: a connection may outlive its certificate, and then ends being trusted.
    """
    if not certificate:
        return None
    if ssl.cert_time_to_seconds(certificate["notAfter"]) < now:
        return None
    attributes = [pair for name in certificate.get("subject", ()) for pair in name]
    users = [value for key, value in attributes if key == "commonName"]
    if not users or not users[-1]:
        return None
    return Identity(users[-1], tuple(value for key, value in attributes if key == "organizationName"))
