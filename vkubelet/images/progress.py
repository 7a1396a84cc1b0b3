"""Bars for what is being downloaded.

It exists because a pull may take minutes, whoever waits for it at a terminal. It must not know what is
pulled.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from oci.manifest import Descriptor
from oci.reference import Reference

if TYPE_CHECKING:
    from rich.progress import Progress


class PullProgress:
    """Implements oci.images.Progress as bars on a terminal, which vanish when `clear` is called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars: Progress | None = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, reference: Reference, blob: Descriptor, size: int) -> None:
        """Told of every piece, in the thread that pulls."""
        with self._lock:
            bars = self._begun()
            if blob.digest not in self._tasks:
                self._tasks[blob.digest] = bars.add_task(str(reference), total=blob.size)
            bars.update(self._tasks[blob.digest], completed=size)

    def clear(self) -> None:
        """Take the bars away: something else is to be written. They come back with the next piece."""
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
                self._bars = None
                self._tasks.clear()

    def _begun(self) -> Progress:
        if self._bars is None:
            # Here, as most plays have the image already, and the import takes longer than they do.
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self._bars
