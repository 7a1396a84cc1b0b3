"""The node's object, as far as it tells of volumes.

It exists as an interface alone: what attaches volumes is told of them there, and says there what it has done.
"""

from __future__ import annotations

from typing import Protocol


class AttachingNode(Protocol):
    """The node's object, as far as it tells of volumes."""

    def use_volumes(self, names: frozenset[str]) -> None:
        """Report these volumes as in use, and no others."""
        ...

    async def attached(self, name: str) -> None:
        """Wait until the cluster sees that a volume is in use and says that it is attached."""
        ...
