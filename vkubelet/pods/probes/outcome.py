"""What one attempt of a probe can come to, in the kubelet's words (pkg/probe/probe.go).

It exists so that who probes and who counts agree on it. It must not know thresholds.
"""

from __future__ import annotations

import dataclasses
import enum


class Result(enum.Enum):
    """A result; the value is its name in messages."""

    SUCCESS = "success"
    WARNING = "warning"  # counts as a success, and an event tells of it
    FAILURE = "failure"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """A result that counts. The message is what the probed side said, or what went wrong."""

    result: Result
    message: str = ""


class ProbeError(Exception):
    """No result: the probe itself could not be made, which counts for nothing. The text says why."""

    def __init__(self, message: str, result: Result = Result.UNKNOWN) -> None:
        """`result` is what a kubelet names in the event beside the error."""
        super().__init__(message)
        self.result = result
