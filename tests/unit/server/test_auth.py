"""The identity in a certificate."""

from __future__ import annotations

import pytest

from vkubelet.server.auth import Identity, identify

NOT_AFTER = "Nov 24 02:00:00 2026 GMT"
EXPIRY = 1795485600.0


def certificate(*subject: tuple[str, str], not_after: str = NOT_AFTER) -> dict[str, object]:
    return {"subject": tuple((pair,) for pair in subject), "notAfter": not_after}


@pytest.mark.parametrize(
    ("subject", "identity"),
    [
        (
            [("organizationName", "system:masters"), ("commonName", "admin")],
            Identity("admin", ("system:masters",)),
        ),
        (
            [("commonName", "a"), ("organizationName", "x"), ("organizationName", "y")],
            Identity("a", ("x", "y")),
        ),
        ([("commonName", "a"), ("commonName", "b"), ("localityName", "c")], Identity("b", ())),
        ([("organizationName", "system:masters")], None),
        ([("commonName", "")], None),
        ([], None),
    ],
)
def test_subjects(subject, identity):
    assert identify(certificate(*subject), 0) == identity


def test_no_certificate_is_nobody():
    assert identify(None, 0) is None
    assert identify({}, 0) is None


def test_trust_ends_with_the_certificate_even_on_an_open_connection():
    admin = certificate(("commonName", "admin"))
    assert identify(admin, EXPIRY) == Identity("admin", ())
    assert identify(admin, EXPIRY + 1) is None
