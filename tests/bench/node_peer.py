"""What a benchmark asks of the node that it measures, be it real or fake."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Peer(Protocol):
    """A node that pods can be bound to."""

    name: str
    node: str
    log: Path

    def start(self) -> None:
        """Return once the node is Ready."""

    def stop(self) -> None:
        """End all its processes."""

    def processes(self) -> dict[str, int]:
        """Pids: `agent`, and `launcher` where there is one."""

    def containers(self) -> list[int]:
        """Pids of containers' processes."""
