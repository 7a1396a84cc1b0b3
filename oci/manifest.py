"""The image specification's documents as typed values.

It exists so that a registry's bytes are doubted once: what comes out of `decode` has the right shape, and
what does not says which field is wrong. It must not know what an image is used for.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from oci import digests
from oci.errors import InvalidManifestError, Named

MAXIMUM_SIZE = 4 * 1024 * 1024
"""Bytes. The distribution specification asks registries to take manifests of at least this size."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
INDEXES = (INDEX, DOCKER_INDEX)

EMPTY = "application/vnd.oci.empty.v1+json"
"""Of a config or layer that says nothing, whose content is `{}`."""

Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Platform(msgspec.Struct, frozen=True):
    """What a manifest of an index is for."""

    architecture: str = ""
    os: str = ""
    variant: str = ""

    def __str__(self) -> str:
        """As Docker writes it: `os/architecture[/variant]`."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """Content by media type, digest and size in bytes."""

    media_type: str
    digest: str
    size: Size
    platform: Platform | None = None
    artifact_type: str = ""

    def document(self) -> dict[str, Any]:
        """What any document that speaks of the content says."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


class Manifest(msgspec.Struct, frozen=True):
    """One image: its config and its layers."""

    config: Descriptor
    layers: list[Descriptor]


class Index(msgspec.Struct, frozen=True):
    """Several images, usually one a platform."""

    manifests: list[Descriptor]


class _Shape(msgspec.Struct, frozen=True, rename="camel"):
    """Enough of a document to tell what it is."""

    schema_version: int
    media_type: str = ""
    layers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    manifests: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def decode(data: bytes, reference: Named) -> Manifest | Index:
    """The document in `data`. Raises InvalidManifestError naming the field.

    A document that could be read as either kind is refused, as the specification asks since CVE-2021-41190:
    the digest of one thing must not stand for two.
    """
    if len(data) > MAXIMUM_SIZE:
        raise InvalidManifestError(reference, f"the manifest is larger than {MAXIMUM_SIZE} bytes")
    try:
        shape = msgspec.json.decode(data, type=_Shape)
        if shape.schema_version != 2:
            raise InvalidManifestError(
                reference, f"manifest: schemaVersion is {shape.schema_version}; only 2 is supported"
            )
        document: Manifest | Index
        if _is_index(shape, reference):
            document = msgspec.json.decode(data, type=Index)
        else:
            document = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidManifestError(reference, f"manifest: {_plain(error)}") from error
    _check_digests(document, reference)
    return document


def _is_index(shape: _Shape, reference: Named) -> bool:
    has_layers, has_manifests = shape.layers is not msgspec.UNSET, shape.manifests is not msgspec.UNSET
    if has_layers and has_manifests:
        raise InvalidManifestError(reference, "manifest: has both `layers` and `manifests`")
    if shape.media_type in INDEXES:
        return True
    if shape.media_type in MANIFESTS:
        return False
    if shape.media_type:
        raise InvalidManifestError(
            reference, f"manifest: mediaType {shape.media_type!r} is neither an image manifest nor an index"
        )
    return has_manifests


def _check_digests(document: Manifest | Index, reference: Named) -> None:
    """Digests become paths and URLs: none that is not well-formed goes further."""
    if isinstance(document, Index):
        named = [(f"manifests[{i}]", entry) for i, entry in enumerate(document.manifests)]
    else:
        named = [("config", document.config)]
        named += [(f"layers[{i}]", layer) for i, layer in enumerate(document.layers)]
    for field, descriptor in named:
        if not digests.valid(descriptor.digest):
            raise InvalidManifestError(
                reference,
                f"manifest: {field}.digest {descriptor.digest[:160]!r} is no sha256, sha384 or sha512 digest",
            )


def _plain(error: Exception) -> str:
    """msgspec's own words name the field as a path, like `$.layers[0].size`."""
    if isinstance(error, RecursionError):
        return "JSON is nested too deeply"
    return str(error)
