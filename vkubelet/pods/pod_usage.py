"""What a pod uses of memory, disk and processes, measured now, for those who must act on it.

It exists because eviction must see what is there at this moment, where statistics may be a minute old. It
must not know what follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

from providers.base import Provider
from providers.disk import DiskUsage, disk_usage
from vkubelet.pods.eviction.ranking import ContainerUsage, PodUsage
from vkubelet.pods.running import RunningContainer

_NOTHING = DiskUsage(0, 0)


async def pod_usage(
    provider: Provider, running: Sequence[RunningContainer], volumes: Iterable[Path]
) -> PodUsage:
    """What these containers and volumes of one pod use. It takes as long as there are files."""
    measured = await provider.usage([one.state.id for one in running])
    running = [one for one in running if one.state.id in measured]  # the others have ended meanwhile
    places = [(provider.root(one.state.id), one.state.log_path.parent) for one in running]
    disks, held = await asyncio.to_thread(_walk, places, list(volumes))
    found = tuple(
        ContainerUsage(one.spec.name, measured[one.state.id].working_set, root.size, logs.size)
        for one, (root, logs) in zip(running, disks, strict=True)
    )
    everything = [*held, *(part for pair in disks for part in pair)]
    return PodUsage(
        found,
        volumes=sum(part.size for part in held),
        inodes=sum(part.inodes for part in everything),
        processes=sum(measured[one.state.id].processes for one in running),
    )


def _walk(
    places: Iterable[tuple[Path, Path]], volumes: Iterable[Path]
) -> tuple[list[tuple[DiskUsage, DiskUsage]], list[DiskUsage]]:
    disks = [(disk_usage(root) or _NOTHING, disk_usage(logs) or _NOTHING) for root, logs in places]
    return disks, [disk_usage(path) or _NOTHING for path in volumes]
