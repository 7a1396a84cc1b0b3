"""How much the logs of the node's containers take on disk.

It exists to look at each of a thousand directories once a minute, as a kubelet does, and not whenever
somebody asks. It must not know formats.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from providers.disk import DiskUsage, disk_usage
from vkubelet.pods.inventory import PodEntry

LogSizes = Mapping[tuple[str, str], DiskUsage]
"""The size of a container's logs by the pod's uid and the container's name."""

SECONDS = 60.0
"""How long what was found holds."""


class LogMeter:
    """Measures logs in the kubelet's layout; may be asked in any thread."""

    def __init__(self, directory: Path) -> None:
        """`directory` holds a directory for each pod."""
        self._directory = directory
        self._known: dict[tuple[str, str], tuple[float, DiskUsage]] = {}

    def sizes(self, entries: Iterable[PodEntry]) -> LogSizes:
        """Of all containers that were started and have a log. Blocks. Raises OSError."""
        now = time.monotonic()
        known, found = self._known, dict[tuple[str, str], tuple[float, DiskUsage]]()
        for entry in entries:
            meta = entry.pod.metadata
            for container in entry.containers:
                key = meta.uid, container.spec.name
                kept = known.get(key)
                if kept is None or kept[0] <= now:
                    pod = f"{meta.namespace}_{meta.name}_{meta.uid}"
                    size = disk_usage(self._directory / pod / container.spec.name)
                    kept = None if size is None else (now + SECONDS, size)
                if kept is not None:
                    found[key] = kept
        self._known = found
        return {key: size for key, (_, size) in found.items()}
