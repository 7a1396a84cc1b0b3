"""What can go wrong with a volume, in the kubelet's words.

It exists so that each kind of volume says only its own cause, and the pod's events still read as a kubelet's.
It must not know any kind.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

UNPROCESSED, UNATTACHED = "unprocessed", "unattached"


class SetUpError(Exception):
    """One volume cannot be set up; the text is the cause alone, as the kubelet's plugin words it.

    `step` is the kubelet's name of what failed, or UNPROCESSED for what fails before there is anything to
    mount, or UNATTACHED for what no controller has attached in time. `name` is what the message calls the
    volume, if not by its name in the pod: a claim's is its PV's.
    """

    def __init__(self, cause: str, *, step: str = "MountVolume.SetUp failed", name: str = "") -> None:
        super().__init__(cause)
        self.step = step
        self.name = name

    def message(self, volume: str) -> str:
        """The text of the event about the volume that the pod calls `volume`."""
        if self.step == UNPROCESSED:
            return (
                f"Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], "
                f"failed to process volumes=[{volume}]: {self}"
            )
        if self.step == UNATTACHED:
            return (
                f"Unable to attach or mount volumes: unmounted volumes=[{volume}], "
                f"unattached volumes=[{volume}], failed to process volumes=[]: {self}"
            )
        return f'{self.step} for volume "{self.name or volume}" : {self}'


class VolumeError(Exception):
    """A pod's volumes are not all there. `reason` is that of the events, `messages` the text of each.

    What could be mounted is, and stays so while the rest is tried again after `retry_after` seconds.
    """

    def __init__(self, messages: Sequence[str], *, retry_after: float, reason: str = "FailedMount") -> None:
        super().__init__("; ".join(messages))
        self.retry_after = retry_after
        self.reason = reason
        self.messages = tuple(messages)


def os_text(error: OSError) -> str:
    """An error of the system as Go words it: `/x: permission denied`."""
    cause = os.strerror(error.errno).lower() if error.errno else str(error)
    return f"{error.filename}: {cause}" if error.filename else cause
