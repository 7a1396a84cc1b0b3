"""The node's images: which are here, and how one gets here.

It exists to put the parts together: one pull for all who want it, every blob once, nothing known before it
is verified and on disk. It must not know pods or how an image is run.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import functools
import logging
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from oci.artifact import ImageConfig
from oci.auth import Credentials
from oci.errors import ImageError
from oci.fetch import Content, approve, complete, fetch, is_kept, recall, resolve, take_in
from oci.flights import SingleFlight, ended
from oci.layers.unpacked import ImageFiles, Unpacked
from oci.manifest import Descriptor
from oci.reference import Reference
from oci.registries import Registries
from oci.registry import CONNECT_TIMEOUT, READ_TIMEOUT, Repository
from oci.store import Store

__all__ = ["Credentials", "Image", "ImageConfig", "ImageStore"]

log = logging.getLogger(__name__)

Progress = Callable[[Reference, Descriptor, int], None]
"""Whose pull, of what, and how many bytes of it have come."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Image:
    """An image whose files are on this node.

    `digest` is what the reference stood for: a manifest, or an index of which the part for wasm is here.
    `size` is bytes of all of it. `names` has the digest references first, as in a node's status. What there
    is to run is either a `module`, and its digest, or among the `files`; see oci.layers.command.
    """

    reference: Reference
    digest: str
    module: Path | None
    module_digest: str
    size: int
    names: tuple[str, ...]
    config: ImageConfig
    files: ImageFiles | None = None

    @property
    def module_digests(self) -> frozenset[str]:
        """Of all WebAssembly in it."""
        return frozenset(self.files.modules.values() if self.files else (self.module_digest,))


class _Source:
    """A repository's connections, closed after their last user: a download may outlive its first pull."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._users = 0

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0:
                self.repository.close()


class ImageStore:
    """Images under one directory, pulled as needed.

    `insecure_registries` (`host[:port]`) are asked over plain HTTP; `registry_config_dir` has containerd's
    hosts.toml files. Of `max_parallel_pulls` the others wait.
    `connect_timeout` and `read_timeout` (seconds) bound a registry's silence, not a pull. All methods but
    `open` are for the event loop's thread.
    """

    def __init__(
        self,
        root: Path,
        *,
        insecure_registries: Collection[str] = (),
        registry_config_dir: Path | None = None,
        max_parallel_pulls: int = 5,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        progress: Progress | None = None,
    ) -> None:
        """Nothing is read or made before `open`. `progress` is told of every piece of a blob, in a thread."""
        self._progress = progress
        self._store = Store(root)
        self._unpacked = Unpacked(root / "unpacked")
        self._registries = Registries(tuple(insecure_registries), registry_config_dir)
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._digests: dict[Reference, str] = {}
        self._contents: dict[str, Content] = {}
        self._references: dict[str, dict[Reference, None]] = {}
        self._pulls: SingleFlight[tuple[Reference, Credentials | None, bool], Image] = SingleFlight()
        self._blobs: SingleFlight[str, None] = SingleFlight()
        # A pull that has its slot uses one thread at a time, so no call waits for a thread.
        self._parallel = max_parallel_pulls
        self._removing = asyncio.Lock()
        self._slots = asyncio.Semaphore(max_parallel_pulls)
        self._threads = ThreadPoolExecutor(max_parallel_pulls, thread_name_prefix="pull")

    def open(self) -> None:
        """Read what is here, before anything else is called; blocks. Raises OSError.

        What is corrupt is set aside with a line in the log, and pulled anew when it is asked for.
        """
        entries = self._store.open()
        self._unpacked.open()
        for reference, digest in entries:
            try:
                content = self._contents.get(digest) or recall(reference, self._store, self._unpacked, digest)
            except ImageError as error:
                self._store.set_aside_entry(reference, error.cause)
            else:
                self._remember(reference, content)

    def get(self, reference: Reference) -> Image | None:
        """The image if all of it is on this node; asks nobody."""
        content = self._contents.get(self._digests.get(_key(reference), ""))
        if content is None or not content.is_here():
            return None
        return self._image(reference, content)

    def list(self) -> builtins.list[Image]:
        """All images on this node, one a digest, under one of its references."""
        return [
            self._image(next(iter(references)), content)
            for digest, references in self._references.items()
            if references and (content := self._contents[digest]).is_here()
        ]

    def queue(self) -> builtins.dict[str, int]:
        """How many pulls there are, those that wait for a slot included, and blobs on their way."""
        return {"pulls": len(self._pulls), "blobs": len(self._blobs)}

    async def pull(
        self, reference: Reference, *, credentials: Credentials | None = None, ask: bool = False
    ) -> Image:
        """Get the image here. A digest that is here already needs no request; a tag is always asked for.

        With `ask` the registry is asked for a digest too, so that it can refuse these credentials.
        Waits for a free slot, and with others who want the same. Raises OciError. Cancelled, it leaves the
        others their pull, or ends it when there are none.
        """
        if reference.digest and not ask:
            present = self.get(reference)
            if present is not None:
                return present
        key = (reference, credentials, ask)
        return await self._pulls.run(key, lambda: self._pull(reference, credentials, ask=ask))

    async def add(self, file: Path, reference: Reference) -> Image:
        """Take in a module that is a file of this machine, under a name that no registry is asked for.

        Raises OciError, and OSError when the file cannot be read.
        """
        async with self._slots:
            plan = await asyncio.to_thread(take_in, file, reference, self._store)
            content = await asyncio.to_thread(complete, reference, self._store, self._unpacked, plan)
            for name in (reference, reference.by_digest(plan.digest)):
                await asyncio.to_thread(self._store.bind, name, plan.digest)
                self._remember(name, content)
        return self._image(reference, content)

    async def remove_unused(self, is_used: Callable[[Image], bool]) -> builtins.list[Image]:
        """Remove the images that are not used, and their files; those that were removed.

        Waits for the pulls that are under way, and others wait for it: what they have got so far is nobody's
        yet. Raises OSError.
        """
        async with self._removing, contextlib.AsyncExitStack() as slots:
            for _ in range(self._parallel):
                await slots.enter_async_context(self._slots)
            unused = [image for image in self.list() if not is_used(image)]
            for image in unused:
                for reference in self._references.pop(image.digest):
                    del self._digests[reference]
                    await asyncio.to_thread(self._store.unbind, reference)
                del self._contents[image.digest]
            needed = frozenset[str]().union(*(content.digests for content in self._contents.values()))
            await asyncio.to_thread(self._store.remove_all_but, needed)
            await asyncio.to_thread(self._unpacked.remove_all_but, needed)
        return unused

    async def _pull(self, reference: Reference, credentials: Credentials | None, *, ask: bool) -> Image:
        async with self._slots:
            hosts = await asyncio.wrap_future(self._threads.submit(self._registries.hosts, reference))
            source = _Source(
                Repository(
                    reference,
                    insecure=self._registries.is_insecure(reference),
                    hosts=hosts,
                    credentials=credentials,
                    connect_timeout=self._connect_timeout,
                    read_timeout=self._read_timeout,
                )
            )
            with source.used():
                known = None if ask and reference.digest else self._digests.get(_key(reference))
                plan = await self._call(source, resolve, source.repository, self._store, known)
                if plan.config is not None:
                    await self._get_blob(source, plan.config)
                    await self._call(source, approve, reference, self._store, plan)
                for blob in plan.blobs:
                    await self._get_blob(source, blob)
                content = self._contents.get(plan.digest)
                if content is None or not content.is_here():
                    content = await self._call(source, complete, reference, self._store, self._unpacked, plan)
                # The digest's own name stays when the tag moves on.
                for name in dict.fromkeys((_key(reference), reference.by_digest(plan.digest))):
                    if self._digests.get(name) != plan.digest:
                        await self._call(source, self._store.bind, name, plan.digest)
                    self._remember(name, content)
        return self._image(reference, content)

    async def _get_blob(self, source: _Source, descriptor: Descriptor) -> None:
        """Have a blob here, by this pull's download or by another's."""
        reference = source.repository.reference
        while not await self._call(source, is_kept, reference, self._store, descriptor):
            is_own = descriptor.digest not in self._blobs
            try:
                await self._blobs.run(descriptor.digest, lambda: self._download(source, descriptor))
            except ImageError:
                # Another image's registry failed, or refused that image's credentials: ask one's own.
                if is_own:
                    raise
            else:
                return

    async def _download(self, source: _Source, descriptor: Descriptor) -> None:
        progress = None
        if self._progress is not None:
            progress = functools.partial(self._progress, source.repository.reference, descriptor)
        with source.used():
            await self._call(source, fetch, source.repository, self._store, descriptor, progress)

    async def _call(self, source: _Source, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in a thread. Cancelled, end its transfers and return when the thread is done."""
        future = asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError:
            source.repository.interrupt()
            await ended(future)
            raise
        return future.result()

    def _remember(self, reference: Reference, content: Content) -> None:
        before = self._digests.get(reference)
        if before is not None:
            self._references[before].pop(reference, None)
        self._digests[reference] = content.digest
        self._contents[content.digest] = content
        self._references.setdefault(content.digest, {})[reference] = None

    def _image(self, reference: Reference, content: Content) -> Image:
        references = self._references[content.digest]
        names = sorted((reference.digest is None, reference.name) for reference in references)
        return Image(
            reference=reference,
            digest=content.digest,
            module=content.module,
            module_digest=content.module_digest,
            size=content.size,
            names=tuple(name for _, name in names),
            config=content.config,
            files=content.files,
        )


def _key(reference: Reference) -> Reference:
    """What an image is kept under: with a digest the tag says nothing."""
    return reference.by_digest(reference.digest) if reference.digest else reference
