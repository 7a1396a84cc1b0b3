"""Spin applications: what they say of themselves, in either of the places where they say it."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci import digests, spin
from oci.errors import InvalidManifestError, OciError
from oci.manifest import Descriptor, Manifest
from oci.reference import parse
from oci.spin import APPLICATION, Application, Trigger

REFERENCE = parse("ghcr.io/me/x:v")
LOCKED = {
    "spin_lock_version": 1,
    "metadata": {"name": "shop", "version": "0.1.0", "origin": "file:///spin.toml"},
    "triggers": [
        {"id": "t1", "trigger_type": "http", "trigger_config": {"component": "web", "route": "/api/..."}},
        {
            "id": "t2",
            "trigger_type": "http",
            "trigger_config": {"component": "in", "route": {"private": True}},
        },
        {"id": "t3", "trigger_type": "redis", "trigger_config": {"channel": "c"}},
    ],
    "components": [{"id": "web", "source": {"digest": "sha256:1"}}, {"id": "in"}],
}


def part(media_type: str) -> Descriptor:
    return Descriptor(media_type, digests.of(media_type.encode()), 1)


def test_what_an_application_says() -> None:
    assert spin.describe(json.dumps(LOCKED).encode(), REFERENCE) == Application(
        name="shop",
        version="0.1.0",
        triggers=[Trigger("http", "web", "/api/..."), Trigger("http", "in", ""), Trigger("redis", "", "")],
        components=["web", "in"],
    )


def test_where_it_says_so() -> None:
    assert spin.application(Manifest(part(APPLICATION), [part("a/b")])) == part(APPLICATION)
    assert spin.application(Manifest(part("a/b"), [part("c/d"), part(APPLICATION)])) == part(APPLICATION)
    assert spin.application(Manifest(part("a/b"), [part("c/d")])) is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metadata": None}, r"\$\.metadata"),
        ({"triggers": [{}]}, "trigger_type"),
        ({"components": 1}, "array"),
    ],
)
def test_what_is_no_application(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidManifestError, match=f"reference v: Spin application: .*{field}"):
        spin.describe(json.dumps(LOCKED | change).encode(), REFERENCE)


@given(st.binary())
def test_any_bytes_are_an_application_or_an_error(data: bytes) -> None:
    with contextlib.suppress(OciError):
        spin.describe(data, REFERENCE)
