"""The node's images: which are here, and how one gets here.

It exists to put the parts together: one pull for all who want it, every blob once, nothing known before it
is verified and on disk. It must not know pods or how an image is run.
"""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from oci import content as contents
from oci.artifact import ImageConfig
from oci.content import TRIES, Content
from oci.credentials import Credentials
from oci.errors import ImageError, StoreError
from oci.flights import SingleFlight
from oci.index import Found, stamp_of
from oci.known import Image, Known
from oci.layers.unpacked import Unpacked
from oci.local import take_in
from oci.plan import disk
from oci.reference import Reference
from oci.registries import CONNECT_TIMEOUT, READ_TIMEOUT, Registries
from oci.store import Store
from oci.uses import Uses

if TYPE_CHECKING:
    from oci.puller import Progress, Puller
    from oci.signing.gate import Gate

__all__ = ["Credentials", "Image", "ImageConfig", "ImageStore"]


class ImageStore:
    """Images under one directory, pulled as needed; other processes may do so in the same directory.

    `insecure_registries` (`host[:port]`) are asked over plain HTTP; `registry_config_dir` has containerd's
    hosts.toml files; `policy` is the file of who must have signed images, if anybody must. Of
    `max_parallel_pulls` the others wait.
    `connect_timeout` and `read_timeout` (seconds) bound a registry's silence, not a pull. All methods but
    `open` are for the event loop's thread.
    """

    def __init__(
        self,
        root: Path,
        *,
        owner: Path | None = None,
        insecure_registries: Collection[str] = (),
        registry_config_dir: Path | None = None,
        policy: Path | None = None,
        max_parallel_pulls: int = 5,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        progress: Progress | None = None,
    ) -> None:
        """Nothing is read or made before `open`. `progress` is told of every piece of a blob, in a thread.

        What is handed out is held for `owner`, the directory of an agent's state, until it is released: no
        other process removes it.
        """
        self._store = Store(root)
        self._unpacked = Unpacked(root / "unpacked")
        self._uses = Uses(root, self._store.ingest, self._store.set_aside, owner)
        self._owner = owner
        self._known = Known(self._store.index)
        self._gate = None if policy is None else _gate(policy, root, self._store)
        # A pull that has its slot uses one thread at a time, so no call waits for a thread.
        self._slots = asyncio.Semaphore(max_parallel_pulls)
        self._puller: Puller | None = None

        def puller() -> Puller:
            """Where all images are here already, its megabytes are not loaded."""
            from oci.puller import Puller

            return Puller(
                self._store,
                self._unpacked,
                Registries(tuple(insecure_registries), registry_config_dir),
                None if self._gate is None else self._gate.check,
                slots=self._slots,
                threads=max_parallel_pulls,
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
                progress=progress,
            )

        self._make_puller = puller
        self._pulls: SingleFlight[tuple[Reference, Credentials | None, bool], Image] = SingleFlight()
        self._looks: SingleFlight[Reference, Image | None] = SingleFlight()
        self._changing = asyncio.Lock()

    def open(self) -> None:
        """Read what is here, before anything else is called; blocks. Raises OSError, and PolicyError.

        What is corrupt is set aside with a line in the log, and pulled anew when it is asked for.
        """
        if self._gate is not None:
            self._gate.open()
        entries = self._store.open()
        self._unpacked.open()
        self._uses.open()
        for found in entries:
            self._remember(found, self._recall(found))

    def get(self, reference: Reference) -> Image | None:
        """The image if this process knows that all of it is on this node; asks nobody. Raises StoreError."""
        with disk(reference):
            return self._known.get(_key(reference), reference)

    async def look(self, reference: Reference) -> Image | None:
        """The image if all of it is on this node, whoever has brought it, held; asks no registry.

        Raises StoreError.
        """
        image = self.get(reference)
        if image is not None and (self._owner is None or image.digest in self._uses.held):
            return image
        key = _key(reference)
        with disk(reference):
            if image is None and stamp_of(self._store.index.location(key)) is None:
                self._known.forget((key,))
                return None
        found = await self._looks.run(key, lambda: self._look(key))
        return None if found is None else dataclasses.replace(found, reference=reference)

    async def accepts(self, image: Image) -> bool:
        """Whether the image policy is known to accept what `look` gave; a `pull` finds it out.

        Raises SignatureError when the policy cannot be read.
        """
        reference, digest = image.reference, image.digest
        if self._gate is None or self._gate.knows(reference, digest):
            return True
        return await asyncio.to_thread(self._gate.recalls, reference, digest)

    def list(self) -> builtins.list[Image]:
        """All images on this node that this process knows, one a digest, under one of its references."""
        return self._known.list()

    def pulled(self) -> builtins.dict[str, float]:
        """When each of them came here, by its digest, in seconds since the epoch."""
        return self._known.pulled()

    def last_used(self) -> Mapping[str, float]:
        """When images were used last, by their digests, as `release` was told."""
        return self._uses.last

    async def held_by_others(self) -> frozenset[str]:
        """The digests of the images that other agents than this one use. Raises OSError."""
        return await asyncio.to_thread(contents.held, self._store, self._uses)

    def queue(self) -> builtins.dict[str, int]:
        """How many pulls there are, those that wait for a slot included, and blobs on their way."""
        return {"pulls": len(self._pulls), "blobs": self._puller.blobs() if self._puller else 0}

    def is_pulling(self, reference: Reference, credentials: Credentials | None, *, ask: bool) -> bool:
        """Whether a `pull` of these would wait for one that is under way."""
        return (reference, credentials, ask) in self._pulls

    async def pull(
        self, reference: Reference, *, credentials: Credentials | None = None, ask: bool = False
    ) -> Image:
        """Get the image here, held. A digest that is here needs no request; a tag is always asked for.

        With `ask` the registry is asked for a digest too, so that it can refuse these credentials.
        Waits for a free slot, and with others who want the same. Raises OciError. Cancelled, it leaves the
        others their pull, or ends it when there are none.
        """
        if reference.digest and not ask:
            present = await self.look(reference)
            if present is not None and await self.accepts(present):
                return present
        key = (reference, credentials, ask)
        return await self._pulls.run(key, lambda: self._pull(reference, credentials, ask=ask))

    async def add(self, file: Path, reference: Reference) -> Image:
        """Take in a module that is a file of this machine, under a name that no registry is asked for.

        Raises OciError, and OSError when the file cannot be read.
        """
        async with self._slots:
            for _ in range(TRIES):
                plan = await asyncio.to_thread(take_in, file, reference, self._store)
                content = await asyncio.to_thread(
                    contents.complete, reference, self._store, self._unpacked, plan
                )
                image = await self._name(reference, content)
                if image is not None:
                    return image
        raise _removed(reference)

    async def refresh(self) -> None:
        """Get to know what other processes have brought here and removed. Raises OSError."""
        async with self._changing:
            before = self._known.stamps()
            current = {
                found.reference: found for found in await asyncio.to_thread(self._store.index.read_all)
            }
            self._known.forget(
                reference
                for reference, stamp in before.items()
                if reference not in current and self._known.stamp(reference) == stamp
            )
            for reference, found in current.items():
                if before.get(reference) != found.stamp:
                    self._remember(found, await asyncio.to_thread(self._recall, found))

    async def set_aside_damaged(self, image: Image) -> None:
        """Read all of an image that was found damaged, and let what is be pulled anew. Raises OSError."""
        content = self._known.content(image.digest)
        if content is not None:
            await asyncio.to_thread(contents.set_aside_damaged, self._store, self._unpacked, content)

    async def release(self, used: Collection[str], last: Mapping[str, float]) -> None:
        """Hold the images of the digests in `used`, and no others. Raises OSError.

        `last` is when each was used last, which is kept.
        """
        # Who wants another one from now on has to take hold of it first, which waits for the lock.
        self._uses.held.intersection_update(used)
        self._uses.held.update(used)
        await asyncio.to_thread(contents.release, self._store, self._uses, last)

    async def remove_unused(self, is_used: Callable[[Image], bool]) -> builtins.list[Image]:
        """Remove the images that are not used, and their files; those that were removed.

        What is on its way stays, and what other agents hold. Raises OSError.
        """
        async with self._changing:
            unused = {image.digest: image for image in self.list() if not is_used(image)}
            # Who wants one of them from now on has to take hold of it first, which waits for the lock.
            self._uses.held.difference_update(unused)
            busy = self._puller.busy() if self._puller else frozenset[str]()
            removed = await asyncio.to_thread(
                contents.remove, self._store, self._unpacked, self._uses, unused.keys(), busy
            )
            self._known.forget_images(removed)
            if self._gate is not None:
                await asyncio.to_thread(self._gate.keep_only, frozenset(self._known.pulled()))
        return [image for digest, image in unused.items() if digest in removed]

    def _recall(self, found: Found) -> Content | None:
        """What an entry of the index stands for; one that cannot be used is set aside. Raises OSError."""
        known = self._known.content(found.entry.digest)
        try:
            return known or contents.recall(found.reference, self._store, self._unpacked, found.entry)
        except ImageError as error:
            self._store.set_aside(self._store.index.path(found.reference), error.cause)
            return None

    def _remember(self, found: Found, content: Content | None) -> None:
        if content is None:
            self._known.forget((found.reference,))
        else:
            self._known.remember(content, {found.reference: found.stamp})

    async def _look(self, key: Reference) -> Image | None:
        """Know and hold what the index has for a name now."""
        with disk(key):
            found = await asyncio.to_thread(self._store.index.read, key)
            if found is None:
                self._known.forget((key,))
                return None
            content = await asyncio.to_thread(self._recall, found)
            self._remember(found, content)
            # Its other name, which tells what containers run.
            other = key.by_digest(found.entry.digest)
            own = await asyncio.to_thread(self._store.index.read, other) if other != key else None
            if own is not None:
                self._remember(own, content)
            image = self._known.get(key, key)
        if image is None or content is None:
            return None
        hold = functools.partial(contents.hold, key, self._store, self._uses, content, found.stamp)
        return image if await asyncio.to_thread(hold) else None

    async def _pull(self, reference: Reference, credentials: Credentials | None, *, ask: bool) -> Image:
        def before() -> str | None:
            return None if ask and reference.digest else self._known.digest(_key(reference))

        if self._puller is None:
            made = await asyncio.to_thread(self._make_puller)
            self._puller = self._puller or made
        image = await self._puller.pull(
            reference, credentials, before, self._known.content, functools.partial(self._name, reference)
        )
        if image is None:
            raise _removed(reference)
        return image

    async def _name(self, reference: Reference, content: Content) -> Image | None:
        """Let a name and the digest's own stand for it; None when something of it was removed meanwhile."""
        # The digest's own name stays when the tag moves on.
        names = dict.fromkeys((_key(reference), reference.by_digest(content.digest)))
        said = {
            name: self._known.stamp(name) if self._known.digest(name) == content.digest else None
            for name in names
        }
        stamps = await asyncio.to_thread(contents.name, reference, self._store, self._uses, content, said)
        if stamps is None:
            return None
        self._known.remember(content, stamps)
        return self._known.image(reference, content)


def _gate(policy: Path, root: Path, store: Store) -> Gate:
    """What judges images; without a policy its megabyte is not loaded."""
    from oci.signing.gate import Gate

    return Gate(policy, root, store)


def _key(reference: Reference) -> Reference:
    """What an image is kept under: with a digest the tag says nothing."""
    return reference.by_digest(reference.digest) if reference.digest else reference


def _removed(reference: Reference) -> StoreError:
    return StoreError(reference, f"image store: what was pulled was removed meanwhile, {TRIES} times")
