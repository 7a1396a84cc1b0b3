"""A node's launcher and containers among this machine's processes, by the command line that they share."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def native(directory: Path) -> dict[int, int]:
    """Pids, with those of their parents, of a node that lives there: containers are its launcher's forks."""
    state = os.fsencode(directory / "run" / "wasmtime")
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if state in (process / "cmdline").read_bytes().split(b"\0"):
                stat = (process / "stat").read_text()
                found[int(process.name)] = int(stat.rpartition(")")[2].split()[1])
    return found


def launcher(directory: Path) -> int:
    """The node's launcher, if its containers are all its own."""
    found = native(directory)
    (root,) = (pid for pid, parent in found.items() if parent not in found)
    return root
