"""A provider that counts what is asked of it, under the names by which a kubelet counts calls to its runtime.

It exists so that neither who asks nor who answers knows of counting. It must not change what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from providers.base import (
    Artifact,
    Capabilities,
    ContainerSpec,
    ContainerState,
    Exit,
    ExitListener,
    Group,
    Provider,
    Streams,
    Usage,
)
from vkubelet import telemetry


class InstrumentedProvider:
    """See providers.base.Provider; everything is done by `provider`."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def open(self, on_exit: ExitListener) -> list[ContainerState]:
        """See Provider."""
        with _operation("list_containers"):
            return await self._provider.open(on_exit)

    async def close(self) -> None:
        """See Provider."""
        await self._provider.close()

    async def prepare(self, module: Path, digest: str) -> Artifact:
        """See Provider."""
        with _operation("create_container"):
            return await self._provider.prepare(module, digest)

    async def discard(self, digest: str) -> None:
        """See Provider."""
        with _operation("remove_image"):
            await self._provider.discard(digest)

    async def start(self, spec: ContainerSpec, go: asyncio.Event | None = None) -> ContainerState:
        """See Provider. Also the time for which it is held is counted."""
        with _operation("start_container"):
            return await self._provider.start(spec, go)

    async def run(
        self, spec: ContainerSpec, streams: Streams, on_start: Callable[[int], None] | None = None
    ) -> Exit:
        """See Provider."""
        with _operation("exec_sync"):
            return await self._provider.run(spec, streams, on_start)

    async def attach(self, container_id: str) -> socket.socket:
        """See Provider."""
        with _operation("attach"):
            return await self._provider.attach(container_id)

    def spec(self, container_id: str) -> ContainerSpec:
        """See Provider."""
        return self._provider.spec(container_id)

    def root(self, container_id: str) -> Path:
        """See Provider."""
        return self._provider.root(container_id)

    async def usage(self, container_ids: Iterable[str]) -> dict[str, Usage]:
        """See Provider."""
        with _operation("list_container_stats"):
            return await self._provider.usage(container_ids)

    async def overhead(self) -> Usage | None:
        """See Provider."""
        return await self._provider.overhead()

    async def kill(self, container_id: str) -> None:
        """See Provider."""
        with _operation("stop_container"):
            await self._provider.kill(container_id)

    async def stop(self, container_id: str, grace_seconds: float) -> None:
        """See Provider."""
        with _operation("stop_container"):
            await self._provider.stop(container_id, grace_seconds)

    async def update(
        self,
        container_id: str,
        *,
        memory_limit: int | None,
        cpu_limit: int | None,
        cpu_request: int | None,
    ) -> None:
        """See Provider."""
        with _operation("update_container"):
            await self._provider.update(
                container_id, memory_limit=memory_limit, cpu_limit=cpu_limit, cpu_request=cpu_request
            )

    async def update_group(self, group: Group) -> None:
        """See Provider."""
        with _operation("update_podsandbox_resources"):
            await self._provider.update_group(group)

    def capabilities(self) -> Capabilities:
        """See Provider."""
        return self._provider.capabilities()

    async def remove(self, container_id: str) -> None:
        """See Provider."""
        with _operation("remove_container"):
            await self._provider.remove(container_id)


@contextlib.contextmanager
def _operation(kind: str) -> Iterator[None]:
    """Count one call; what a caller gave up is no error of the runtime's."""
    began = time.monotonic()
    telemetry.RUNTIME_OPERATIONS.inc(kind)
    try:
        yield
    except Exception:
        telemetry.RUNTIME_OPERATION_ERRORS.inc(kind)
        raise
    finally:
        telemetry.RUNTIME_OPERATION_DURATION.observe(time.monotonic() - began, kind)
