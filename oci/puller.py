"""Pulls: what is asked of a registry, in which order, and how many at once.

It exists so that every blob comes once, for all who want it at the same time, and blocks no event loop. It
must not know names, nor which images are here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from oci.artifact import Layered
from oci.content import TRIES, Content, complete
from oci.credentials import Credentials
from oci.errors import ImageError, InvalidLayerError, LostError
from oci.fetch import fetch, is_kept, resolve
from oci.flights import SingleFlight, ended
from oci.layers.unpacked import Unpacked
from oci.manifest import Descriptor
from oci.plan import Plan, disk, layered_config
from oci.reference import Reference
from oci.registries import Registries
from oci.registry import Repository
from oci.store import Store

Progress = Callable[[Reference, Descriptor, int], None]
"""Whose pull, of what, and how many bytes of it have come."""

Check = Callable[[Repository, Plan], None]
"""Refuses an image by its plan, whose manifests are here. Raises OciError."""

P = ParamSpec("P")
T = TypeVar("T")


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


class Puller:
    """Gets content into one store; a pull waits for one of `slots`, which are as many as `threads`."""

    def __init__(
        self,
        store: Store,
        unpacked: Unpacked,
        registries: Registries,
        check: Check | None,
        *,
        slots: asyncio.Semaphore,
        threads: int,
        connect_timeout: float,
        read_timeout: float,
        progress: Progress | None,
    ) -> None:
        self._store = store
        self._unpacked = unpacked
        self._registries = registries
        self._check = check
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._progress = progress
        self._blobs: SingleFlight[str, None] = SingleFlight()
        self._plans: dict[object, Plan] = {}
        self._slots = slots
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="pull")

    def blobs(self) -> int:
        """How many are on their way."""
        return len(self._blobs)

    def busy(self) -> frozenset[str]:
        """The digests of all that pulls which are under way need."""
        return frozenset[str]().union(*(plan.digests for plan in self._plans.values()))

    async def pull(
        self,
        reference: Reference,
        credentials: Credentials | None,
        before: Callable[[], str | None],
        present: Callable[[str], Content | None],
        finish: Callable[[Content], Awaitable[T | None]],
    ) -> T | None:
        """Get an image here; what `finish` makes of it, while nothing of it is removed by this process.

        `before` gives the digest that the reference had before, and `present` content of a digest that is
        here. When something was removed meanwhile, by another process, `finish` says so by None, and all is
        tried anew, a few times. Raises OciError.
        """
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
                for _ in range(TRIES):
                    pull = object()
                    try:
                        plan = await self._call(source, resolve, source.repository, self._store, before())
                        self._plans[pull] = plan
                        if self._check is not None:
                            await self._call(source, self._check, source.repository, plan)
                        content = present(plan.digest)
                        if content is None or not content.is_here():
                            await self._get_all(source, plan)
                            content = await self._call(
                                source, complete, reference, self._store, self._unpacked, plan
                            )
                        finished = await finish(content)
                    except LostError:
                        continue
                    except InvalidLayerError:
                        # The image's own fault, unless the layer has changed since it was fetched.
                        if not await self._call(source, _set_aside_damaged, reference, self._store, plan):
                            raise
                        continue
                    finally:
                        self._plans.pop(pull, None)
                    if finished is not None:
                        return finished
        return None

    async def _get_all(self, source: _Source, plan: Plan) -> None:
        reference, layout = source.repository.reference, plan.layout
        for blob in plan.blobs:
            await self._get_blob(source, blob)
            if isinstance(layout, Layered) and blob.digest == layout.config.digest:
                # It may say that the rest is not worth to be fetched.
                await self._call(source, layered_config, reference, self._store, layout, chosen=plan.chosen)

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


def _set_aside_damaged(reference: Reference, store: Store, plan: Plan) -> bool:
    """Whether any of what an image consists of was damaged. Raises StoreError."""
    with disk(reference):
        return False in {store.verify(digest) for digest in plan.digests}
