"""Removes what an earlier agent left of pods that are no more: directories that are named by pods' uids.

It exists because the same has to be done in several places, and in one order only: pods go on to come, and
what they make meanwhile is theirs. It must not know what is in the directories.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from pathlib import Path


async def sweep(parent: Path, uids: Callable[[], Container[str]], remove: Callable[[Path], None]) -> None:
    """Remove those in `parent` whose pods are not among `uids`, which are asked for once they are listed.

    A pod that comes later makes a directory that was not listed. `remove` may block.
    """
    found = await asyncio.to_thread(_entries, parent)
    known = uids()
    for entry in found:
        if entry.name not in known:
            await asyncio.to_thread(remove, entry)


def _entries(parent: Path) -> list[Path]:
    return list(parent.iterdir()) if parent.is_dir() else []
