"""Manifests: the shapes that are read, the fields that errors name, and that no bytes do harm."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci import digests
from oci.artifact import ImageConfig, Layered, read_config, select_layout, select_platform
from oci.errors import InvalidManifestError, OciError
from oci.manifest import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, MAXIMUM_SIZE, Index, Manifest, decode
from oci.reference import parse

REFERENCE = parse("ghcr.io/me/x:v")
DIGEST = digests.of(b"")


def descriptor(**changes: object) -> dict[str, Any]:
    return {"mediaType": "application/wasm", "digest": DIGEST, "size": 0} | changes


def manifest(**changes: object) -> dict[str, Any]:
    whole = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(), "layers": [descriptor()]}
    return {name: value for name, value in (whole | changes).items() if value is not None}


@pytest.mark.parametrize("media_type", [MANIFEST, DOCKER_MANIFEST, None])
def test_an_image(media_type: str | None) -> None:
    document = decode(json.dumps(manifest(mediaType=media_type, unknown=[1])).encode(), REFERENCE)
    assert isinstance(document, Manifest)
    assert document.layers[0].digest == DIGEST


@pytest.mark.parametrize("media_type", [INDEX, DOCKER_INDEX, ""])
def test_an_index(media_type: str) -> None:
    entry = descriptor(platform={"os": "wasi", "architecture": "wasm"})
    data = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}).encode()
    document = decode(data, REFERENCE)
    assert isinstance(document, Index)
    assert str(document.manifests[0].platform) == "wasi/wasm"


@pytest.mark.parametrize(
    ("document", "cause"),
    [
        (manifest(schemaVersion=1), "schemaVersion is 1"),
        (manifest(schemaVersion=None), "`schemaVersion`"),
        (manifest(schemaVersion="2"), "$.schemaVersion"),
        (manifest(config=None), "`config`"),
        (manifest(layers=None), "`layers`"),
        (manifest(layers={}), "$.layers"),
        (manifest(layers=[descriptor(size="1")]), "$.layers[0].size"),
        (manifest(layers=[descriptor(size=-1)]), "$.layers[0].size"),
        (manifest(layers=[descriptor(size=2**70)]), "$.layers[0].size"),
        (manifest(layers=[descriptor(digest=None)]), "$.layers[0].digest"),
        (manifest(layers=[descriptor(), descriptor(digest="sha256:../../x")]), "layers[1].digest"),
        (manifest(config=descriptor(digest="md5:abc")), "config.digest"),
        (manifest(manifests=[]), "both `layers` and `manifests`"),
        (manifest(mediaType=INDEX), "`manifests`"),
        (manifest(mediaType="text/html"), "mediaType 'text/html' is neither"),
        ({"schemaVersion": 2, "manifests": [descriptor(digest="x:y")]}, "manifests[0].digest"),
        ([], "Expected `object`"),
    ],
)
def test_what_is_wrong_is_named(document: object, cause: str) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        decode(json.dumps(document).encode(), REFERENCE)
    text = str(caught.value)
    assert cause in text
    assert text.startswith("registry ghcr.io, repository me/x, reference v: ")


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "truncated"),
        (b"<html>", "malformed"),
        (b'{"schemaVersion":2,"x":"\xff"}', "manifest: "),
        (b"[" * 100_000, "manifest: "),
        (b'{"a":' * 100_000, "manifest: "),
        (b" " * (MAXIMUM_SIZE + 1), "larger than 4194304 bytes"),
    ],
)
def test_what_is_no_json(data: bytes, cause: str) -> None:
    with pytest.raises(InvalidManifestError, match=cause):
        decode(data, REFERENCE)


_KEYS = st.sampled_from(
    ["config", "layers", "manifests", "mediaType", "digest", "size", "platform", "os", "architecture"]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(DIGEST),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=12,
)
_DOCUMENTS = st.dictionaries(_KEYS, _JSON).map(
    lambda fields: json.dumps({"schemaVersion": 2} | fields).encode()
)


@given(st.binary() | _DOCUMENTS)
def test_any_bytes_are_an_image_or_an_error(data: bytes) -> None:
    with contextlib.suppress(OciError):
        document = decode(data, REFERENCE)
        if isinstance(document, Index):
            assert select_platform(document, REFERENCE) in document.manifests
        else:
            layout = select_layout(document, REFERENCE)
            parts = layout.layers if isinstance(layout, Layered) else (layout.module,)
            assert set(parts) <= set(document.layers)


@given(st.binary() | _JSON.map(lambda value: json.dumps({"config": value}).encode()))
def test_any_bytes_are_a_config_or_an_error(data: bytes) -> None:
    with contextlib.suppress(OciError):
        assert isinstance(read_config(data, REFERENCE), ImageConfig)
