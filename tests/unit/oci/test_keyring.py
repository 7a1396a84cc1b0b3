"""Docker's configurations: which of their credentials are for an image, and what is wrong with one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci.credentials import Credentials
from oci.keyring import Key, Keyring, KeyringError, read_config, read_legacy_config
from oci.reference import parse


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def keys(*places: str) -> list[Key[str]]:
    document = {"auths": {place: auth(f"user:{number}") for number, place in enumerate(places)}}
    return read_config(json.dumps(document).encode(), "here")


@pytest.mark.parametrize(
    ("image", "places", "found"),
    [
        ("example.com/app", ["example.com"], [0]),
        ("example.com/app", ["https://example.com/v1/", "http://example.com/v2/"], [0, 1]),
        ("example.com/app", ["https://example.com/", "example.com:443", "other.com"], [0]),
        ("example.com:5000/app", ["example.com:5000", "example.com", "*.com:5000"], [0, 2]),
        (
            "a.example.com/app",
            ["*.example.com", "example.com", "[ab].example.com", "[^ab].example.com"],
            [2, 0],
        ),
        ("a.example.com/app", ["*.com", "?.example.com"], [1]),
        # The longest path is tried first, and one is the beginning of what it is for.
        ("example.com/team/app", ["example.com", "example.com/team", "example.com/team/app"], [2, 1, 0]),
        ("example.com/team/app", ["example.com/te", "example.com/other"], [0]),
        ("app", ["docker.io"], [0]),
        ("app", ["https://index.docker.io/v1/"], [0]),
        ("app", ["https://index.docker.io/v1/", "docker.io"], [1]),
        ("example.com/app", ["https://index.docker.io/v1/"], []),
        ("localhost:5000/app", ["http://[::1", "localhost:5000"], [1]),
        ("[::1]:5000/app", ["[::1]:5000", "[::2]:5000", "http://[::1]:5000/v2/"], [0, 2]),
        ("example.com/app", [], []),
    ],
)
def test_which_are_for_an_image(image: str, places: list[str], found: list[int]) -> None:
    looked_up = Keyring(keys(*places)).lookup(parse(image))
    assert [key.credentials for key in looked_up] == [Credentials("user", str(number)) for number in found]
    assert {key.source for key in looked_up} <= {"here"}


def test_all_keys_of_one_place_are_tried_in_order() -> None:
    both = [Key("example.com", Credentials("a", "1"), 1), Key("example.com", Credentials("b", "2"), 2)]
    assert Keyring(both).lookup(parse("example.com/app")) == both


@pytest.mark.parametrize(
    ("entry", "credentials"),
    [
        ({"username": "u", "password": "p", "email": "e"}, Credentials("u", "p")),
        ({**auth("u:"), "identitytoken": "t"}, Credentials("u", "", "t")),
        ({"registrytoken": "t"}, Credentials("", "", "", "t")),
        (auth("u:p:q"), Credentials("u", "p:q")),
        ({"auth": auth("user:pass")["auth"].rstrip("=")}, Credentials("user", "pass")),
        ({"username": "u", "password": "p", **auth("v:q")}, Credentials("v", "q")),
        ({}, Credentials("", "")),
    ],
)
def test_entries(entry: dict[str, Any], credentials: Credentials) -> None:
    for found in (
        read_config(json.dumps({"auths": {"r.io": entry}, "credsStore": "x"}).encode(), None),
        read_legacy_config(json.dumps({"r.io": entry}).encode(), None),
    ):
        assert found == [Key("r.io", credentials, None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "truncated"),
        (b"\xff", "malformed|invalid"),
        (b'{"auths": 1}', r"\$\.auths"),
        (b'{"auths": {"r.io": {"auth": 1}}}', r"\.auth`"),
        (b'{"auths": {"r.io": {"auth": "%"}}}', r"auths\['r\.io'\]\.auth: is no base64"),
        (b'{"auths": {"r.io": {"auth": "c2VjcmV0"}}}', r"must be formatted as base64\(username:password\)"),
        (b'{"auths": ' + b'{"a":' * 5000, "nested|truncated|depth"),
    ],
)
def test_what_cannot_be_read_is_told_without_secrets(text: bytes, message: str) -> None:
    with pytest.raises(KeyringError, match=message) as caught:
        read_config(text, None)
    assert "secret" not in str(caught.value)


def test_without_any_there_is_none() -> None:
    assert read_config(b"{}", None) == read_config(b'{"auths": {"r.io": null}}', None) == []
    assert read_legacy_config(b'{"r.io": null}', None) == []


@given(st.binary() | st.from_regex(r'\{"auths": \{"[^"]*": \{"auth": "[^"]*"\}\}\}').map(str.encode))
def test_any_bytes_are_a_configuration_or_an_error(data: bytes) -> None:
    try:
        found = read_config(data, None)
    except KeyringError:
        return
    Keyring(found).lookup(parse("example.com/app"))
