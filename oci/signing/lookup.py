"""Where an image's signatures are in its registry, and getting them.

It exists so that what a registry may say costs a bounded number of requests and bytes. cosign keeps them
under a tag made of the image's digest, sigstore's bundles are referrers of it, by the distribution
specification's API or its fallback tag; of a list in pages the first is read. All of it blocks. It must not
know what makes a signature good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from oci import digests
from oci.attachment import fallback_tag
from oci.errors import InvalidManifestError, NotFoundError, RegistryProtocolError
from oci.manifest import EMPTY, Descriptor, Index, decode
from oci.registry import Repository
from oci.signing.errors import SignatureProblem
from oci.signing.signature import BUNDLE, SIMPLE, Signature, bundle, simple
from oci.signing.verdict import Found

MOST = 32
"""Signatures that are looked at, of each of an image's digests and of each kind."""
MAXIMUM_SIZE = 1024 * 1024
"""Bytes of one signature's blob."""

_UNTOLD = ("", EMPTY)
"""What some registries and clients list a bundle as, whose manifest has its type."""


class _Layer(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}


class _Layers(msgspec.Struct, frozen=True):
    layers: list[_Layer]


def signatures(repository: Repository, manifests: Mapping[str, bytes]) -> Iterator[list[Found]]:
    """The signatures of an image's manifests, by digest, one place after the other. Raises OciError.

    What is there but is no signature is told as that; a registry that cannot be asked is an error.
    """
    for digest in manifests:
        yield _simple(repository, digest)
        yield _bundles(repository, digest, manifests)


def _simple(repository: Repository, digest: str) -> list[Found]:
    tag = f"{digest.replace(':', '-')}.sig"

    def read(layer: _Layer, data: bytes) -> Signature:
        return simple(data, layer.annotations)

    return list(_read(repository, f"tag {tag}", tag, SIMPLE, read))


def _bundles(repository: Repository, digest: str, manifests: Mapping[str, bytes]) -> list[Found]:
    def read(layer: _Layer, data: bytes) -> Signature:
        return bundle(data, manifests)

    found: list[Found] = []
    for one in _referrers(repository, digest)[:MOST]:
        found += _read(repository, f"referrer {one.digest}", one.digest, BUNDLE, read)
    return found


def _referrers(repository: Repository, digest: str) -> list[Descriptor]:
    """What may be a bundle of what refers to a manifest, first what is said to be one. Raises OciError."""
    try:
        data = repository.referrers(digest)
    except (NotFoundError, RegistryProtocolError):
        # The registry has not the API: then it is clients that keep the list.
        try:
            _, data = repository.manifest(fallback_tag(digest))
        except NotFoundError:
            return []
    document = decode(data, repository.reference)
    if not isinstance(document, Index):
        raise InvalidManifestError(repository.reference, f"referrers of {digest}: are no index")
    told = [one for one in document.manifests if one.artifact_type.startswith(BUNDLE)]
    return [*told, *(one for one in document.manifests if one.artifact_type in _UNTOLD)]


def _read(
    repository: Repository,
    where: str,
    identifier: str,
    media_type: str,
    read: Callable[[_Layer, bytes], Signature],
) -> Iterator[Found]:
    """The signatures in a manifest's layers of a media type. Raises OciError."""
    try:
        _, data = repository.manifest(identifier)
    except NotFoundError:
        return
    try:
        layers = msgspec.json.decode(data, type=_Layers).layers
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield Found(where, None, f"its manifest cannot be read: {error}")
        return
    for position, layer in enumerate(layers[:MOST]):
        if layer.media_type.startswith(media_type):
            here = f"{where} layer {position}"
            try:
                signature = read(layer, _blob(repository, layer))
            except SignatureProblem as problem:
                yield Found(here, None, str(problem))
            else:
                yield Found(here, signature)


def _blob(repository: Repository, layer: _Layer) -> bytes:
    """A layer's bytes, verified. Raises OciError and SignatureProblem."""
    if not digests.valid(layer.digest):
        raise SignatureProblem(f"its digest is {layer.digest[:160]!r}")
    if not 0 <= layer.size <= MAXIMUM_SIZE:
        raise SignatureProblem(f"it has {layer.size} bytes, of which at most {MAXIMUM_SIZE} are read")
    descriptor = Descriptor(layer.media_type, layer.digest, layer.size)
    data = b"".join(repository.blob(descriptor))
    if not digests.matches(layer.digest, data):
        raise SignatureProblem(f"its content is not that of {layer.digest}")
    return data
