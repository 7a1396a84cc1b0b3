"""Named points between any two steps of a state's transition, at which a test has the process die.

It exists so that the crash test (tests/integration/test_fault_points.py) can try every one of them: it goes
through POINTS, so that none is forgotten. A point that is passed costs a look at a variable, unless a test
has named a file in the environment when the process started: then the file says at which point, and at which
passage of it, the process kills itself, as `kill -9` would. It must not know what is done at a point.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

VARIABLE = "VKUBELET_FAULT_POINTS"
"""Names the file. Its text is `POINT PASSAGE`, the passages counted from 1; empty, nothing happens."""

POINTS = (
    # A container's start.
    "image-access-half-written",
    "image-bound",
    "container-directory-made",
    "container-spec-written",
    "container-asked-for",
    "container-answered",
    "start-noted",
    # Its limits, and its end.
    "container-updated",
    "container-end-heard",
    "container-end-noted",
    "container-spec-removed",
    "container-directory-removed",
    "container-trashed",
    "previous-attempt-removed",
    # What a pod is given, and what is said of it.
    "allocation-half-written",
    "allocation-written",
    "devices-half-written",
    "devices-written",
    "status-sent",
    # Its volumes.
    "volume-files-made",
    "volume-files-swapped",
    "volumes-mounted",
    "volumes-released",
    "volumes-removed",
    "csi-stage-noted",
    "csi-staged",
    "csi-publish-noted",
    "csi-published",
    "csi-unpublished",
    "csi-unstaged",
    # Its end.
    "pod-finished",
    "pod-containers-removed",
    "pod-allocation-forgotten",
    "pod-logs-removed",
    # Another agent takes charge.
    "adoption-scanned",
    "adoption-swept",
    "orphan-killed",
    "orphan-removed",
)


class _Armed:
    """What the file says, and how often its point was passed since it said so."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._wanted = ""
        self._passages = 0
        self._counting = threading.Lock()

    def passed(self, point: str) -> None:
        """Die, if this is the passage that the file names. Raises ValueError for a point of no list."""
        if point not in POINTS:
            raise ValueError(f"{point} is not among the fault points")
        with self._counting:
            wanted = self._file.read_text()
            if wanted != self._wanted:
                self._wanted, self._passages = wanted, 0
            name, _, passage = wanted.partition(" ")
            if name != point:
                return
            self._passages += 1
            if self._passages == int(passage):
                os.kill(os.getpid(), signal.SIGKILL)


_armed = _Armed(Path(os.environ[VARIABLE])) if VARIABLE in os.environ else None


def reached(point: str) -> None:
    """This point of POINTS is passed. For any thread."""
    if _armed is not None:
        _armed.passed(point)
