"""Images whose content is here: made of what was pulled, recalled at the next start, named, removed.

It exists so that all that is known of an image at a start comes from here, whoever has pulled it. All of it
blocks. It must not know registries, nor threads or tasks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from oci.artifact import ImageConfig, SingleModule, read_config
from oci.errors import ImageError, LostError
from oci.index import Entry, Single, Stamp, stamp_of
from oci.layers.unpacked import ImageFiles, Unpacked
from oci.plan import Plan, disk, kept, layered_config, layers_of, plan_image
from oci.reference import Reference
from oci.store import Store
from oci.uses import Uses

TRIES = 3
"""How often an image is brought here anew, since another process has removed of it what was here already."""


@dataclass(frozen=True, slots=True)
class Content:
    """An image, all of which was here when this was made; `digests` are of manifests too.

    It has either a `module`, a file's path, its digest and what the index keeps of it, `single`, or `files`.
    `parts` are files of the store and their sizes in bytes.
    """

    digest: str
    module: str | None
    module_digest: str
    files: ImageFiles | None
    size: int
    config: ImageConfig
    parts: tuple[tuple[str, int], ...]
    digests: frozenset[str]
    single: Single | None

    def is_here(self) -> bool:
        """Whether the files are still here, in their sizes; a microsecond each."""
        try:
            return all(os.stat(path).st_size == size for path, size in self.parts)  # noqa: PTH116  hot
        except OSError:
            return False


def complete(reference: Reference, store: Store, unpacked: Unpacked, plan: Plan) -> Content:
    """The image whose blobs are here; its files are unpacked if they are not yet. Raises OciError."""
    layout = plan.layout
    with disk(reference):
        for part in plan.parts:
            if not store.has(part.digest, part.size):
                raise LostError(reference, f"{part.digest}: not in the image store")
    if isinstance(layout, SingleModule):
        config = ImageConfig()
        if layout.config is not None:
            config = read_config(kept(reference, store, layout.config.digest), reference)
        single = Single(layout.module.digest, plan.size, config, plan.parts)
        return _single(store, plan.digest, single)
    told = layered_config(reference, store, layout, chosen=plan.chosen)
    layers = layers_of(layout, told, lambda layer: store.path(layer.digest))
    files = unpacked.files(reference, plan.manifests[-1].digest, layers)
    with disk(reference):
        record = (str(files.record), files.record.stat().st_size)
    return Content(
        digest=plan.digest,
        module=None,
        module_digest="",
        files=files,
        size=plan.size,
        config=told.run,
        parts=(*((store.location(part.digest), part.size) for part in plan.parts), record),
        digests=plan.digests,
        single=None,
    )


def recall(reference: Reference, store: Store, unpacked: Unpacked, entry: Entry) -> Content:
    """An image that the index knows. Raises OciError when anything of it is missing.

    Of one module that is believed, and looked at when it is asked for: there may be a thousand.
    """
    if entry.single is not None:
        return _single(store, entry.digest, entry.single)
    return complete(reference, store, unpacked, _plan(reference, store, entry.digest))


def name(
    reference: Reference,
    store: Store,
    uses: Uses,
    content: Content,
    names: Mapping[Reference, Stamp | None],
) -> dict[Reference, Stamp] | None:
    """Let names stand for an image and hold it; None when something of it was removed meanwhile.

    Names come with the stamp of their entry, where it is known to say so already. Raises StoreError.
    """
    index, stamps = store.index, {}
    with disk(reference), store.locked():
        if not content.is_here():
            return None
        for one, known in names.items():
            if known is None or stamp_of(index.location(one)) != known:
                known = index.write(one, content.digest, content.single)
            stamps[one] = known
        uses.hold(content.digest)
    return stamps


def hold(reference: Reference, store: Store, uses: Uses, content: Content, stamp: Stamp) -> bool:
    """Keep an image from other processes' removals; False when it is removed already. Raises StoreError."""
    with disk(reference), store.locked():
        if stamp_of(store.index.location(reference)) != stamp or not content.is_here():
            return False
        uses.hold(content.digest)
    return True


def set_aside_damaged(store: Store, unpacked: Unpacked, content: Content) -> None:
    """Set aside what is damaged of an image, all of which is read; files are made anew. Raises OSError."""
    for digest in content.digests:
        store.verify(digest)
    if content.files is not None:
        unpacked.remove(content.files)


def held(store: Store, uses: Uses) -> frozenset[str]:
    """The digests of the images that other agents use. Raises OSError."""
    with store.locked():
        return uses.of_others()


def release(store: Store, uses: Uses, last: Mapping[str, float]) -> None:
    """Tell what is held, and when images were used last. Raises OSError."""
    with store.locked():
        uses.release(last)


def remove(
    store: Store, unpacked: Unpacked, uses: Uses, unwanted: Collection[str], busy: Collection[str]
) -> frozenset[str]:
    """Remove the images of these digests, with content that nobody needs then; those that were removed.

    Others' and content of the digests in `busy`, which are on their way, stay. Raises OSError.
    """
    with store.locked():
        removed = frozenset(unwanted) - uses.of_others()
        needed, dropped = set(busy), set[str]()
        for found in store.index.read_all():
            parts = _digests(found.reference, store, found.entry)
            if found.entry.digest in removed:
                store.index.remove(found.reference)
                dropped |= parts
            else:
                needed |= parts
        store.remove_all_but(needed, dropped, time.time())
        unpacked.remove_all_but(needed)
    return removed


def _single(store: Store, digest: str, single: Single) -> Content:
    return Content(
        digest=digest,
        module=store.location(single.module),
        module_digest=single.module,
        files=None,
        size=single.size,
        config=single.config,
        parts=tuple((store.location(part.digest), part.size) for part in single.parts),
        digests=frozenset(part.digest for part in single.parts),
        single=single,
    )


def _plan(reference: Reference, store: Store, digest: str) -> Plan:
    return plan_image(reference, digest, lambda wanted: kept(reference, store, wanted))


def _digests(reference: Reference, store: Store, entry: Entry) -> frozenset[str]:
    """Of all that an entry needs: nothing, when its manifests are lost, as it cannot be used then."""
    if entry.single is not None:
        return frozenset(part.digest for part in entry.single.parts)
    try:
        return _plan(reference, store, entry.digest).digests
    except ImageError:
        return frozenset()
