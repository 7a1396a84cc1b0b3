"""Why a container could not be started.

It exists apart from what starts containers because every step of a start may fail with it.
"""

from __future__ import annotations


class NotMountedError(Exception):
    """The volumes that a start was made ready for did not come: nothing is wrong with the start itself."""


class StartError(Exception):
    """A start that failed: `reason` and the text are those of the container's waiting state.

    `retry_after` is for how long nobody should try again, in seconds, as who refused asked for it.
    """

    def __init__(self, reason: str, message: str, retry_after: float = 0.0) -> None:
        """`reason` is one of the kubelet's, `message` the cause in words."""
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after
