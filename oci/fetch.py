"""The steps of a pull, each of which blocks: what a reference stands for, a blob, how to run it.

It exists so that the order of requests and files is plain sequential code; what runs when, and for whom, is
decided elsewhere. It must not know threads or tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from oci import digests
from oci.artifact import ImageConfig, read_config, select_module, select_platform
from oci.errors import InvalidManifestError, NotFoundError, StoreError, VerificationError
from oci.manifest import MAXIMUM_SIZE, Descriptor, Index, Manifest, decode
from oci.package import package
from oci.reference import Reference
from oci.registry import CHUNK, Repository
from oci.store import Store


@dataclass(frozen=True, slots=True)
class Plan:
    """What an image consists of: `digest` is what the reference stands for, `size` all bytes of it.

    `config` is only wanted where it says how to run the module. `manifests` are the digests of the image's
    manifest, and of the index that it is in, if it is in one.
    """

    digest: str
    module: Descriptor
    config: Descriptor | None
    size: int
    manifests: tuple[str, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """What has to be here besides the manifests; the small one first."""
        return (self.module,) if self.config is None else (self.config, self.module)


@dataclass(frozen=True, slots=True)
class Content:
    """An image's files, all of which were here when this was made; `digests` are of manifests too."""

    digest: str
    module: Path
    module_digest: str
    size: int
    config: ImageConfig
    files: tuple[tuple[Path, int], ...]
    digests: frozenset[str]

    def is_here(self) -> bool:
        """Whether the files are still here, in their sizes; a microsecond each."""
        try:
            return all(path.stat().st_size == size for path, size in self.files)
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

    `progress` is told how many bytes of it have come.
    """
    with store.writer(repository.reference, descriptor.digest, descriptor.size) as writer:
        for piece in repository.blob(descriptor):
            writer.write(piece)
            if progress is not None:
                progress(writer.size)


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
    return Plan(digest=digest, module=made.layer, config=None, size=size, manifests=(digest,))


def is_kept(reference: Reference, store: Store, descriptor: Descriptor) -> bool:
    """Whether a blob is here already. Raises StoreError."""
    with _disk(reference):
        return store.has(descriptor.digest, descriptor.size)


def complete(reference: Reference, store: Store, plan: Plan) -> Content:
    """The files of an image whose blobs are here. Raises OciError."""
    config = ImageConfig()
    if plan.config is not None:
        config = read_config(_kept(reference, store, plan.config.digest), reference)
    return Content(
        digest=plan.digest,
        module=store.path(plan.module.digest),
        module_digest=plan.module.digest,
        size=plan.size,
        config=config,
        files=tuple((store.path(blob.digest), blob.size) for blob in plan.blobs),
        digests=frozenset((*plan.manifests, *(blob.digest for blob in plan.blobs))),
    )


def recall(reference: Reference, store: Store, digest: str) -> Content:
    """An image of an earlier run, from what is here. Raises OciError when anything of it is missing."""
    plan = _plan(reference, digest, lambda wanted: _kept(reference, store, wanted))
    for blob in plan.blobs:
        if not is_kept(reference, store, blob):
            raise NotFoundError(reference, f"blob {blob.digest}: not in the image store")
    return complete(reference, store, plan)


def _plan(reference: Reference, digest: str, read: Callable[[str], bytes]) -> Plan:
    """Follow the manifests, at most one index deep."""
    data = read(digest)
    size = len(data)
    manifests = [digest]
    document: Manifest | Index = decode(data, reference)
    if isinstance(document, Index):
        chosen = select_platform(document, reference)
        data = read(chosen.digest)
        if len(data) != chosen.size:
            raise VerificationError(
                reference, f"manifest {chosen.digest}: {len(data)} bytes, the index says {chosen.size}"
            )
        size += len(data)
        manifests.append(chosen.digest)
        document = decode(data, reference)
        if isinstance(document, Index):
            raise InvalidManifestError(reference, f"manifest {chosen.digest}: an index in an index")
    layout = select_module(document, reference)
    size += layout.module.size + (layout.config.size if layout.config else 0)
    return Plan(
        digest=digest, module=layout.module, config=layout.config, size=size, manifests=tuple(manifests)
    )


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
