"""What `vkubelet play` itself has to say, on standard error: events, and how far pulls have come.

It exists so that people see why nothing happens yet, and never in the middle of what their pod writes. It
must not know what an event means.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from vkubelet.api.objects import ObjectReference

if TYPE_CHECKING:
    pass

# What the pod's status says too, in better words.
_SAID_BY_STATUS = re.compile(
    "Failed|FailedMount|InspectFailed|ErrImageNeverPull|UnsupportedPodSpec|UnexpectedAdmissionError|NodeAffinity|OutOf.*"
)


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
