"""What containers use: their processes, the instances beside them, and their root directories.

It exists to do in threads what blocks, to keep what was found of disks for a while, and to let a container's
processor time never shrink when an instance in it has ended. It must not know how processes are started.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from providers.base import Usage
from providers.disk import DiskUsage
from providers.procfs import ProcessUsage, process_usage

_log = logging.getLogger(__name__)

DISK_SECONDS = 60.0
"""How long what was found of a root directory holds: the kubelet's housekeeping looks as rarely."""


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """A process to measure. `start_time`, in clock ticks since boot, tells it from a later one of its pid."""

    pid: int
    start_time: int


@dataclasses.dataclass(slots=True)
class _Kept:
    """What is remembered of a container between two measurements."""

    instances: dict[Measured, int] = dataclasses.field(default_factory=dict)
    ended: int = 0
    own: ProcessUsage | None = None
    disk: DiskUsage | None = None
    disk_until: float = 0.0


class UsageMeter:
    """Measures containers. It belongs to one event loop."""

    def __init__(self, disk: Callable[[str], DiskUsage | None]) -> None:
        """`disk` looks at what a container's root directory takes, and blocks. It may raise OSError."""
        self._disk = disk
        self._kept: dict[str, _Kept] = {}
        self._walking: asyncio.Task[None] | None = None

    async def measure(
        self, containers: Mapping[str, Measured], instances: Mapping[str, Sequence[Measured]]
    ) -> dict[str, Usage]:
        """The usage of each container whose process runs, with that of the `instances` in it.

        An instance's processor time stays its container's as far as it was seen. Nothing waits for a disk: a
        root directory is walked after the first question, and then once a minute while questions come.
        """
        known = {name: kept.own for name in containers if (kept := self._kept.get(name)) is not None}
        found = await asyncio.to_thread(_read, containers, instances, known)
        usages = {}
        for name, (own, beside) in found.items():
            usages[name] = self._usage(self._kept.setdefault(name, _Kept()), own, beside)
        self._walk_stale(usages)
        return usages

    async def measure_one(self, pid: int) -> Usage | None:
        """The usage of one process that is no container; None if it has ended."""
        found = await asyncio.to_thread(process_usage, pid)
        return None if found is None else self._usage(_Kept(), found, {})

    def forget(self, container_id: str) -> None:
        """The container has ended."""
        self._kept.pop(container_id, None)

    async def walked(self) -> None:
        """Return when no walk is under way."""
        if self._walking is not None:
            await asyncio.wait([self._walking])

    async def close(self) -> None:
        """Stop walking; a tree that is being walked is walked to its end, or the limit."""
        if self._walking is not None:
            self._walking.cancel()
            await asyncio.wait([self._walking])

    def _usage(self, kept: _Kept, own: ProcessUsage, beside: Mapping[Measured, ProcessUsage]) -> Usage:
        for instance in kept.instances.keys() - beside.keys():
            kept.ended += kept.instances.pop(instance)
        kept.instances.update({instance: usage.cpu for instance, usage in beside.items()})
        kept.own = own
        everything = (own, *beside.values()) if beside else (own,)
        return Usage(
            cpu=own.cpu + kept.ended + sum(kept.instances.values()),
            memory=sum(part.memory for part in everything),
            working_set=sum(part.anonymous + part.shared for part in everything),
            rss=sum(part.anonymous for part in everything),
            page_faults=sum(part.page_faults for part in everything),
            major_page_faults=sum(part.major_page_faults for part in everything),
            processes=len(everything),
            threads=sum(part.threads for part in everything),
            disk=None if kept.disk is None else kept.disk.size,
            inodes=None if kept.disk is None else kept.disk.inodes,
        )

    def _walk_stale(self, usages: Mapping[str, Usage]) -> None:
        now = time.monotonic()
        stale = [name for name in usages if self._kept[name].disk_until <= now]
        if stale and (self._walking is None or self._walking.done()):
            self._walking = asyncio.create_task(self._walk(stale), name="disk usage")

    async def _walk(self, container_ids: Sequence[str]) -> None:
        """Each tree in a thread call of its own, so that a cancellation waits for one of them at most."""
        for name in container_ids:
            try:
                disk = await asyncio.to_thread(self._disk, name)
            except OSError as error:
                _log.error("the disk usage of container %s: %s", name, error)
                disk = None
            kept = self._kept.get(name)
            if kept is not None:
                kept.disk, kept.disk_until = disk, time.monotonic() + DISK_SECONDS


def _read(
    containers: Mapping[str, Measured],
    instances: Mapping[str, Sequence[Measured]],
    known: Mapping[str, ProcessUsage | None],
) -> dict[str, tuple[ProcessUsage, dict[Measured, ProcessUsage]]]:
    found = {}
    for name, process in containers.items():
        own = process_usage(process.pid, process.start_time, known.get(name))
        if own is None:
            continue
        beside = {
            instance: usage
            for instance in instances.get(name, ())
            if (usage := process_usage(instance.pid, instance.start_time)) is not None
        }
        found[name] = own, beside
    return found
