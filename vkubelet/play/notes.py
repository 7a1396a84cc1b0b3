"""What `vkubelet play` itself has to say, on standard error: events, and how far pulls have come.

It exists so that people see why nothing happens yet, and never in the middle of what their pod writes. It
must not know what an event means.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from oci.manifest import Descriptor
from oci.reference import Reference
from vkubelet.api.objects import ObjectReference

if TYPE_CHECKING:
    from rich.progress import Progress

# What the pod's status says too, in better words.
_SAID_BY_STATUS = re.compile(
    "Failed|FailedMount|InspectFailed|ErrImageNeverPull|UnsupportedPodSpec|UnexpectedAdmissionError|NodeAffinity|OutOf.*"
)


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


class Notes:
    """Implements Recorder: warnings are told as they come, once each; with `verbose` all events."""

    def __init__(
        self,
        before: Callable[[], None],
        failed: Callable[[ObjectReference, str, str], None],
        *,
        verbose: bool,
    ) -> None:
        """`before` makes room on the terminal. `failed` hears of each warning: of what, reason, message."""
        self._before = before
        self._failed = failed
        self._verbose = verbose
        self._told: set[str] = set()
        self.raw = False
        """Whether the terminal is raw, so that a line's end does not begin the next one."""

    def event(self, ref: ObjectReference, type: str, reason: str, message: str) -> None:  # noqa: A002
        """See Recorder."""
        if type == "Warning":
            self._failed(ref, reason, message)
        if self._verbose or (type == "Warning" and not _SAID_BY_STATUS.fullmatch(reason)):
            self.say(f"{ref.name}: {reason}: {message}")

    def say(self, text: str) -> None:
        """Write a line, unless it has been written before."""
        if text in self._told:
            return
        self._told.add(text)
        self._before()
        end = "\r\n" if self.raw else "\n"
        with contextlib.suppress(OSError):  # the terminal may be gone
            sys.stderr.write(f"vkubelet play: {text}{end}")
            sys.stderr.flush()
