"""Who is calling: what a client certificate proves, and which bearer token a request brings.

It exists so that the rules of authentication that need nobody's answer are pure functions. TLS has verified
a certificate's chain against the client CA when it gets here. It must know neither sockets nor the API
server. The rules are those of k8s.io/apiserver's request authenticators.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

ANONYMOUS = "system:anonymous"
AUTHENTICATED_GROUP = "system:authenticated"
UNAUTHENTICATED_GROUP = "system:unauthenticated"
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"

_UID_OID = "1.3.6.1.4.1.57683.2"
_TOKEN_PROTOCOL = "base64url.bearer.authorization.k8s.io."  # noqa: S105  a prefix, no secret
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z")


class BadCredentialsError(Exception):
    """Credentials that nobody needs to judge; the text is for the log and holds nothing of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """A caller as Kubernetes names one. `extra` is sorted by its keys."""

    user: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def authenticated(self) -> Identity:
        """The same with the group of everyone who is, or is not, authenticated."""
        if self.user == ANONYMOUS or {AUTHENTICATED_GROUP, UNAUTHENTICATED_GROUP} & set(self.groups):
            return self
        return dataclasses.replace(self, groups=(*self.groups, AUTHENTICATED_GROUP))


NOBODY = Identity(ANONYMOUS, (UNAUTHENTICATED_GROUP,))
"""Who brings no credentials, where that is allowed."""


def identify(certificate: Mapping[str, Any] | None, der: bytes, now: float) -> Identity | None:
    """The identity of a verified peer certificate, as `SSLSocket.getpeercert()` describes it, or None.

    The user is the subject's common name, the groups are its organizations. `der` is the certificate itself,
    whose hash is told as the credential's id. `now` is seconds since the epoch: a connection may outlive
    its certificate. Raises BadCredentialsError for an expired one, and for a uid that is not one.
    """
    if not certificate:
        return None
    if ssl.cert_time_to_seconds(certificate["notAfter"]) < now:
        raise BadCredentialsError(f"the client certificate expired at {certificate['notAfter']}")
    attributes = [pair for name in certificate.get("subject", ()) for pair in name]
    users = [value for key, value in attributes if key == "commonName"]
    if not users or not users[-1]:
        return None
    uids = [value for key, value in attributes if key == _UID_OID]
    if len(uids) > 1 or uids == [""]:
        raise BadCredentialsError(f"the client certificate has not one uid but {len(uids)}, or an empty one")
    return Identity(
        users[-1],
        tuple(value for key, value in attributes if key == "organizationName"),
        uids[0] if uids else "",
        ((CREDENTIAL_ID, (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)),),
    )


def bearer_token(authorization: str | None) -> str | None:
    """The token in an Authorization header; None if it holds none."""
    kind, *rest = (authorization or "").strip().split(" ", 2)
    return rest[0] if rest and rest[0] and kind.lower() == "bearer" else None


def websocket_token(headers: Iterable[str]) -> str | None:
    """The token among the offered protocols in a WebSocket request's Sec-WebSocket-Protocol headers.

    A browser cannot set any other header. Raises BadCredentialsError.
    """
    offered = [protocol.strip() for header in headers for protocol in header.split(",")]
    tokens = [
        protocol.removeprefix(_TOKEN_PROTOCOL) for protocol in offered if protocol.startswith(_TOKEN_PROTOCOL)
    ]
    if not tokens:
        return None
    if len(tokens) > 1:
        raise BadCredentialsError("multiple base64.bearer.authorization tokens specified")
    encoded = tokens[0]
    try:
        # The decoder itself passes over what is not of its alphabet.
        if not _BASE64URL.match(encoded):
            raise BadCredentialsError("invalid base64.bearer.authorization token encoding")
        token = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except binascii.Error as error:
        raise BadCredentialsError("invalid base64.bearer.authorization token encoding") from error
    except UnicodeDecodeError:
        # No cause: its text would show the token.
        raise BadCredentialsError("invalid base64.bearer.authorization token") from None
    if token and len(offered) == 1:
        raise BadCredentialsError("missing additional subprotocol")
    return token or None
