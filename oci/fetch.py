"""The steps of a pull, each of which blocks: what a reference stands for, a blob, how to run it.

It exists so that the order of requests and files is plain sequential code; what runs when, and for whom, is
decided elsewhere. It must not know threads or tasks.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from oci import digests
from oci.artifact import (
    ImageConfig,
    Layered,
    LayeredConfig,
    Layout,
    SingleModule,
    check_layered,
    is_for_wasm,
    read_config,
    read_layered_config,
    select_layout,
    select_platform,
)
from oci.errors import InvalidManifestError, NotFoundError, StoreError, VerificationError
from oci.layers.unpacked import ImageFiles, Layer, Unpacked
from oci.manifest import MAXIMUM_SIZE, Descriptor, Index, Manifest, decode
from oci.package import package
from oci.reference import Reference
from oci.registry import CHUNK, Repository
from oci.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an image consists of: `digest` is what the reference stands for, `size` all bytes of it.

    `manifests` are the digests of the image's manifest, after that of the index that it is in, if it is in
    one, which then has it for wasm if `chosen`.
    """

    digest: str
    layout: Layout
    size: int
    manifests: tuple[str, ...]
    chosen: bool = False

    @property
    def config(self) -> Descriptor | None:
        """What says how to run it, to be had before the rest: see `approve`."""
        return self.layout.config

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """What has to be here besides the manifests; the config first."""
        layout = self.layout
        parts = (layout.module,) if isinstance(layout, SingleModule) else layout.layers
        config = () if layout.config is None else (layout.config,)
        return tuple({part.digest: part for part in (*config, *parts)}.values())


@dataclass(frozen=True, slots=True)
class Content:
    """An image, all of which was here when this was made; `digests` are of manifests too.

    It has either a `module`, and its digest, or `files`. `kept` are files of the store and their sizes.
    """

    digest: str
    module: Path | None
    module_digest: str
    files: ImageFiles | None
    size: int
    config: ImageConfig
    kept: tuple[tuple[Path, int], ...]
    digests: frozenset[str]

    def is_here(self) -> bool:
        """Whether the files are still here, in their sizes; a microsecond each."""
        try:
            return all(path.stat().st_size == size for path, size in self.kept)
        except OSError:
            return False


def resolve(repository: Repository, store: Store, known: str | None) -> Plan:
    """Ask what the repository's reference stands for; keep its manifests. Raises OciError.

    `known` is the digest that the reference had before in this repository, if any: a tag is then first asked
    whether it is still that one, which costs no content. Without it the registry is asked even for a digest
    whose content is here: it may be another repository's, which not everybody may read.
    """
    reference = repository.reference

    def read(digest: str) -> bytes:
        data = store.read(digest, MAXIMUM_SIZE)
        if data is None:
            _, data = repository.manifest(digest)
            store.write(reference, digest, data)
        return data

    with _disk(reference):
        digest = (reference.digest or repository.resolve()) if known else None
        if digest is None:
            digest, data = repository.manifest(reference.identifier)
            store.write(reference, digest, data)
        return _plan(reference, digest, read)


def fetch(
    repository: Repository, store: Store, descriptor: Descriptor, progress: Callable[[int], None] | None
) -> None:
    """Download a blob into the store. Raises OciError, and then leaves nothing.

    What mirrors gave that is not the blob is asked of the registry itself. `progress` is told how many bytes
    of it have come.
    """
    for by_last in (False, True):
        try:
            with store.writer(repository.reference, descriptor.digest, descriptor.size) as writer:
                for piece in repository.blob(descriptor, by_last=by_last):
                    writer.write(piece)
                    if progress is not None:
                        progress(writer.size)
        except VerificationError as error:
            if by_last or not repository.is_mirrored:
                raise
            log.warning("%s; the last of the registry's hosts is asked", error)
        else:
            return


def take_in(file: Path, reference: Reference, store: Store) -> Plan:
    """Put a module that is a file of this machine into the store, as an artifact of its own.

    Raises OciError, and OSError when the file cannot be read.
    """
    with file.open("rb") as content:
        made = package(file, content, reference)
        content.seek(0)
        with _disk(reference):
            if not store.has(made.layer.digest, made.layer.size):
                with store.writer(reference, made.layer.digest, made.layer.size) as writer:
                    while piece := content.read(CHUNK):
                        writer.write(piece)
    store.write(reference, made.config.digest, made.config_data)
    digest = digests.of(made.manifest)
    store.write(reference, digest, made.manifest)
    size = len(made.manifest) + made.layer.size
    return Plan(digest, SingleModule(made.layer, None), size, manifests=(digest,))


def is_kept(reference: Reference, store: Store, descriptor: Descriptor) -> bool:
    """Whether a blob is here already. Raises StoreError."""
    with _disk(reference):
        return store.has(descriptor.digest, descriptor.size)


def approve(reference: Reference, store: Store, plan: Plan) -> None:
    """Look at an image's config, which is here, before the rest is fetched. Raises OciError."""
    if isinstance(plan.layout, Layered):
        _layered_config(reference, store, plan.layout, chosen=plan.chosen)


def complete(reference: Reference, store: Store, unpacked: Unpacked, plan: Plan) -> Content:
    """The image whose blobs are here; its files are unpacked if they are not yet. Raises OciError."""
    layout, config = plan.layout, ImageConfig()
    module, module_digest, files = None, "", None
    kept = [(store.path(blob.digest), blob.size) for blob in plan.blobs]
    if isinstance(layout, SingleModule):
        module, module_digest = store.path(layout.module.digest), layout.module.digest
        if layout.config is not None:
            config = read_config(_kept(reference, store, layout.config.digest), reference)
    else:
        told = _layered_config(reference, store, layout, chosen=plan.chosen)
        config = told.run
        layers = [
            Layer(store.path(layer.digest), layer.media_type, layer.digest, diff_id)
            for layer, diff_id in zip(layout.layers, told.diff_ids, strict=True)
        ]
        files = unpacked.files(reference, plan.manifests[-1], layers)
        with _disk(reference):
            kept.append((files.record, files.record.stat().st_size))
    return Content(
        digest=plan.digest,
        module=module,
        module_digest=module_digest,
        files=files,
        size=plan.size,
        config=config,
        kept=tuple(kept),
        digests=frozenset((*plan.manifests, *(blob.digest for blob in plan.blobs))),
    )


def recall(reference: Reference, store: Store, unpacked: Unpacked, digest: str) -> Content:
    """An image of an earlier run, from what is here. Raises OciError when anything of it is missing."""
    plan = _plan(reference, digest, lambda wanted: _kept(reference, store, wanted))
    for blob in plan.blobs:
        if not is_kept(reference, store, blob):
            raise NotFoundError(reference, f"blob {blob.digest}: not in the image store")
    return complete(reference, store, unpacked, plan)


def _layered_config(reference: Reference, store: Store, layout: Layered, *, chosen: bool) -> LayeredConfig:
    config = read_layered_config(_kept(reference, store, layout.config.digest), reference)
    check_layered(config, layout, reference, chosen=chosen)
    return config


def _plan(reference: Reference, digest: str, read: Callable[[str], bytes]) -> Plan:
    """Follow the manifests, at most one index deep."""
    data = read(digest)
    size = len(data)
    manifests, is_chosen = [digest], False
    document: Manifest | Index = decode(data, reference)
    if isinstance(document, Index):
        chosen = select_platform(document, reference)
        data = read(chosen.digest)
        if len(data) != chosen.size:
            raise VerificationError(
                reference, f"manifest {chosen.digest}: {len(data)} bytes, the index says {chosen.size}"
            )
        size += len(data)
        is_chosen = chosen.platform is not None and is_for_wasm(chosen.platform)
        manifests.append(chosen.digest)
        document = decode(data, reference)
        if isinstance(document, Index):
            raise InvalidManifestError(reference, f"manifest {chosen.digest}: an index in an index")
    plan = Plan(digest, select_layout(document, reference), size, tuple(manifests), is_chosen)
    return replace(plan, size=size + sum(blob.size for blob in plan.blobs))


def _kept(reference: Reference, store: Store, digest: str) -> bytes:
    with _disk(reference):
        data = store.read(digest, MAXIMUM_SIZE)
    if data is None:
        raise NotFoundError(reference, f"{digest}: not in the image store")
    return data


@contextlib.contextmanager
def _disk(reference: Reference) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(reference, f"image store: {error.filename}: {error.strerror or error}") from error
