"""Who is calling, from a certificate or from a request's headers."""

from __future__ import annotations

import base64
import hashlib

import pytest

from vkubelet.server.auth_identity import (
    CREDENTIAL_ID,
    NOBODY,
    BadCredentialsError,
    Identity,
    bearer_token,
    identify,
    websocket_token,
)

NOT_AFTER = "Nov 24 02:00:00 2026 GMT"
EXPIRY = 1795485600.0
DER = b"a certificate"
EXTRA = ((CREDENTIAL_ID, (f"X509SHA256={hashlib.sha256(DER).hexdigest()}",)),)
PROTOCOL = "base64url.bearer.authorization.k8s.io."


def certificate(*subject: tuple[str, str], not_after: str = NOT_AFTER) -> dict[str, object]:
    return {"subject": tuple((pair,) for pair in subject), "notAfter": not_after}


@pytest.mark.parametrize(
    ("subject", "user", "groups", "uid"),
    [
        ([("organizationName", "system:masters"), ("commonName", "admin")], "admin", ("system:masters",), ""),
        ([("commonName", "a"), ("organizationName", "x"), ("organizationName", "y")], "a", ("x", "y"), ""),
        ([("commonName", "a"), ("commonName", "b"), ("localityName", "c")], "b", (), ""),
        ([("commonName", "a"), ("1.3.6.1.4.1.57683.2", "7")], "a", (), "7"),
    ],
)
def test_subjects(subject, user, groups, uid):
    assert identify(certificate(*subject), DER, 0) == Identity(user, groups, uid, EXTRA)


@pytest.mark.parametrize(
    "subject", [[("organizationName", "system:masters")], [("commonName", "")], [("localityName", "c")], []]
)
def test_a_subject_without_a_common_name_is_nobody(subject):
    assert identify(certificate(*subject), DER, 0) is None


@pytest.mark.parametrize("uids", [["1", "2"], [""]])
def test_a_uid_is_one_or_none(uids):
    with pytest.raises(BadCredentialsError):
        identify(certificate(("commonName", "a"), *(("1.3.6.1.4.1.57683.2", uid) for uid in uids)), DER, 0)


def test_no_certificate_is_nobody():
    assert identify(None, b"", 0) is None
    assert identify({}, b"", 0) is None


def test_trust_ends_with_the_certificate_even_on_an_open_connection():
    admin = certificate(("commonName", "admin"))
    assert identify(admin, DER, EXPIRY) == Identity("admin", (), "", EXTRA)
    with pytest.raises(BadCredentialsError, match="expired"):
        identify(admin, DER, EXPIRY + 1)


@pytest.mark.parametrize(
    ("identity", "groups"),
    [
        (Identity("a", ("x",)), ("x", "system:authenticated")),
        (Identity("a", ("system:authenticated", "x")), ("system:authenticated", "x")),
        (Identity("a", ("system:unauthenticated",)), ("system:unauthenticated",)),
        (Identity("system:anonymous", ("x",)), ("x",)),
        (NOBODY, ("system:unauthenticated",)),
    ],
)
def test_everyone_is_in_one_of_two_groups(identity, groups):
    assert identity.authenticated() == Identity(identity.user, groups)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer  twice-spaced", None),
        ("Basic dTpw", None),
        ("bearer-token", None),
        ("Bearer abc", "abc"),
        ("bEARER abc", "abc"),
        (" Bearer abc ", "abc"),
        ("Bearer abc and more", "abc"),
    ],
)
def test_bearer_tokens(header, token):
    assert bearer_token(header) == token


def protocol(token: bytes) -> str:
    return PROTOCOL + base64.urlsafe_b64encode(token).decode().rstrip("=")


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([], None),
        (["v5.channel.k8s.io"], None),
        ([f"{protocol(b'secret')}, v5.channel.k8s.io"], "secret"),
        ([protocol(b"\xc3\xbf??"), "v5.channel.k8s.io"], "\xff??"),
        ([PROTOCOL], None),
    ],
)
def test_a_websocket_brings_its_token_as_a_protocol(headers, token):
    assert websocket_token(headers) == token


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ([protocol(b"secret")], "missing additional subprotocol"),
        ([f"{protocol(b'secret')},{protocol(b'other')},x"], "multiple"),
        ([PROTOCOL + "a", "x"], "encoding"),
        ([PROTOCOL + "c2Vj!cmV0", "x"], "encoding"),
        ([PROTOCOL + "c2VjcmV0=", "x"], "encoding"),
        ([protocol(b"secret\xff"), "x"], "invalid"),
    ],
)
def test_what_is_no_token_is_refused_without_being_shown(headers, text):
    with pytest.raises(BadCredentialsError, match=text) as refused:
        websocket_token(headers)
    assert "secret" not in str(refused.value)
    assert "c2Vj" not in str(refused.value)
