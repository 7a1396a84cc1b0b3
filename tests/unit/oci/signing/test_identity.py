"""Which image a signature may name for one that was asked for."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci.reference import parse
from oci.signing.identity import Identity, fulfils

A, B = ("sha256:" + one * 64 for one in "ab")


def rule(kind: str, **fields: str) -> Identity:
    found: Any = msgspec.convert({"type": kind, **fields}, Identity)
    return found


EXACT, REPO_OR_EXACT, REPOSITORY = rule("matchExact"), rule("matchRepoDigestOrExact"), rule("matchRepository")
THIS, THESE = (
    rule("exactReference", dockerReference="v.io/x:v1"),
    rule("exactRepository", dockerRepository="v.io/x"),
)
REMAP = rule("remapIdentity", prefix="m.io/mirror", signedPrefix="v.io")
REMAP_HOST = rule("remapIdentity", prefix="m.io", signedPrefix="v.io/all")


@pytest.mark.parametrize(
    ("asked", "named", "identity", "expected"),
    [
        ("r.io/x:v1", "r.io/x:v1", EXACT, True),
        ("r.io/x:v1", "r.io/x:v2", EXACT, False),
        ("r.io/x:v1", "r.io/x", EXACT, False),
        ("r.io/x", "r.io/x", EXACT, False),
        ("r.io/x", "r.io/x:latest", EXACT, True),
        ("r.io/x:v1", f"r.io/x:v1@{A}", EXACT, False),
        (f"r.io/x@{A}", f"r.io/x@{A}", EXACT, True),
        (f"r.io/x@{A}", f"r.io/x@{B}", EXACT, False),
        (f"r.io/x@{A}", "r.io/x:v1", EXACT, False),
        ("r.io/x:v1", "r.io/x:v1", REPO_OR_EXACT, True),
        ("r.io/x:v1", "r.io/x", REPO_OR_EXACT, False),
        ("r.io/x:v1", "r.io/x:v2", REPO_OR_EXACT, False),
        (f"r.io/x@{A}", "r.io/x", REPO_OR_EXACT, True),
        (f"r.io/x:v9@{A}", "r.io/x:v1", REPO_OR_EXACT, True),
        (f"r.io/x@{A}", "r.io/y", REPO_OR_EXACT, False),
        ("r.io/x:v1", "r.io/x", REPOSITORY, True),
        ("r.io/x:v1", "r.io/x:v9", REPOSITORY, True),
        ("r.io/x:v1", "r.io/x/y", REPOSITORY, False),
        ("r.io/x:v1", "q.io/x", REPOSITORY, False),
        ("busybox", "docker.io/library/busybox", REPOSITORY, True),
        ("busybox", "index.docker.io/library/busybox", REPOSITORY, True),
        ("localhost:5000/x:v1", "localhost:5000/x", REPOSITORY, True),
        ("localhost:5000/x:v1", "localhost:5000/x", REPO_OR_EXACT, False),
        ("m.io/x:v1", "v.io/x:v1", THIS, True),
        ("m.io/x:v1", "v.io/x:v2", THIS, False),
        ("m.io/x:v1", "v.io/x:v2", THESE, True),
        ("m.io/x:v1", "m.io/x:v1", THESE, False),
        ("m.io/mirror/a/x:v1", "v.io/a/x:v1", REMAP, True),
        ("m.io/mirror/a/x:v1", "m.io/mirror/a/x:v1", REMAP, False),
        ("m.io/mirrored/x:v1", "v.io/ed/x:v1", REMAP, False),
        ("m.io/other/x:v1", "m.io/other/x:v1", REMAP, True),
        ("m.io/x:v1", "v.io/all/x:v1", REMAP_HOST, True),
        ("m.io/x:v1", "", rule("digestOnly"), True),
        ("m.io/x:v1", "no image:", REPOSITORY, False),
        ("m.io/x:v1", "", REPOSITORY, False),
    ],
)
def test_which_image_is_named(asked: str, named: str, identity: Identity, expected: bool) -> None:
    assert fulfils(identity, named or None, parse(asked)) is expected


@given(st.text(max_size=30) | st.sampled_from(["r.io/x", "r.io/x:v2", "r.io/y:v1"]))
def test_whatever_a_signature_names_only_the_image_itself_is_exact(named: str) -> None:
    assert not fulfils(EXACT, named, parse("r.io/x:v1"))
