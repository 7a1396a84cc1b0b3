"""The first steps of a pull, each of which blocks: what a reference stands for, a blob.

It exists so that the order of requests and files is plain sequential code; what runs when, and for whom, is
decided elsewhere. It must not know threads or tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from oci.errors import VerificationError
from oci.manifest import MAXIMUM_SIZE, Descriptor
from oci.plan import Plan, disk, plan_image
from oci.reference import Reference
from oci.registry import Repository
from oci.store import Store

log = logging.getLogger(__name__)


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

    with disk(reference):
        digest = (reference.digest or repository.resolve()) if known else None
        if digest is None:
            digest, data = repository.manifest(reference.identifier)
            store.write(reference, digest, data)
        return plan_image(reference, digest, read)


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


def is_kept(reference: Reference, store: Store, descriptor: Descriptor) -> bool:
    """Whether a blob is here already. Raises StoreError."""
    with disk(reference):
        return store.has(descriptor.digest, descriptor.size)
