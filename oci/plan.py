"""What an image consists of, found out by its manifests.

It exists because a pull, an image of an earlier run and the removal of others all need to know it, and have
the manifests from different places. It must not know how content gets here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from oci.artifact import (
    Layered,
    LayeredConfig,
    Layout,
    SingleModule,
    check_layered,
    is_for_wasm,
    read_layered_config,
    select_layout,
    select_platform,
)
from oci.errors import InvalidManifestError, LostError, StoreError, VerificationError
from oci.index import Blob
from oci.layers.unpacked import Layer
from oci.manifest import MAXIMUM_SIZE, Descriptor, Index, Manifest, decode
from oci.reference import Reference
from oci.store import Store


@dataclass(frozen=True, slots=True)
class Plan:
    """What an image consists of; `digest` is what the reference stands for.

    `manifests` are the image's manifest, after the index that it is in, if it is in one, which then has it
    for wasm if `chosen`.
    """

    digest: str
    layout: Layout
    manifests: tuple[Blob, ...]
    chosen: bool = False

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """What has to be here besides the manifests; the config first."""
        layout = self.layout
        parts = (layout.module,) if isinstance(layout, SingleModule) else layout.layers
        config = () if layout.config is None else (layout.config,)
        return tuple({part.digest: part for part in (*config, *parts)}.values())

    @property
    def parts(self) -> tuple[Blob, ...]:
        """All of it, the manifests first."""
        return (*self.manifests, *(Blob(blob.digest, blob.size) for blob in self.blobs))

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return sum(part.size for part in self.parts)

    @property
    def digests(self) -> frozenset[str]:
        """Of all of it."""
        return frozenset(part.digest for part in self.parts)


def plan_image(reference: Reference, digest: str, read: Callable[[str], bytes]) -> Plan:
    """Follow the manifests, at most one index deep; `read` gives one by its digest. Raises ImageError."""
    data = read(digest)
    manifests, is_chosen = [Blob(digest, len(data))], False
    document: Manifest | Index = decode(data, reference)
    if isinstance(document, Index):
        chosen = select_platform(document, reference)
        data = read(chosen.digest)
        if len(data) != chosen.size:
            raise VerificationError(
                reference, f"manifest {chosen.digest}: {len(data)} bytes, the index says {chosen.size}"
            )
        is_chosen = is_for_wasm(chosen)
        manifests.append(Blob(chosen.digest, len(data)))
        document = decode(data, reference)
        if isinstance(document, Index):
            raise InvalidManifestError(reference, f"manifest {chosen.digest}: an index in an index")
    return Plan(digest, select_layout(document, reference), tuple(manifests), is_chosen)


def layered_config(reference: Reference, store: Store, layout: Layered, *, chosen: bool) -> LayeredConfig:
    """The config, which is here, of an image with files that is worth to be fetched. Raises OciError."""
    config = read_layered_config(kept(reference, store, layout.config.digest), reference)
    check_layered(config, layout, reference, chosen=chosen)
    return config


def layers_of(layout: Layered, config: LayeredConfig, path: Callable[[Descriptor], Path]) -> list[Layer]:
    """The layers of an image that `check_layered` has seen; `path` gives where each one's blob is."""
    return [
        Layer(path(layer), layer.media_type, layer.digest, diff_id)
        for layer, diff_id in zip(layout.layers, config.diff_ids, strict=True)
    ]


def kept(reference: Reference, store: Store, digest: str) -> bytes:
    """A manifest or config that is here. Raises LostError and StoreError."""
    with disk(reference):
        data = store.read(digest, MAXIMUM_SIZE)
    if data is None:
        raise LostError(reference, f"{digest}: not in the image store")
    return data


@contextlib.contextmanager
def disk(reference: Reference) -> Iterator[None]:
    """Failures of the disk in the body are this reference's: raises StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(reference, f"image store: {error.filename}: {error.strerror or error}") from error
