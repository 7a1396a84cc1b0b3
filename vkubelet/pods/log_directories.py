"""The directories of pods' logs, and which of them are this node's.

It exists because a kubelet of the same machine has its pods' logs in the same place: what an agent that was
killed has left is removed, and nobody else's. So a link to each directory is made before it and removed
after it, in a directory of the node's own. It must not know what is in the logs, nor when a pod ends.

    ROOT_DIR/pod-logs/UID -> POD_LOGS_DIR/NAMESPACE_NAME_UID
"""

# Paths are text here: this is done for every start.
# ruff: noqa: PTH102, PTH103, PTH108, PTH115, PTH120, PTH211

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

logger = logging.getLogger(__name__)


def link(root_dir: Path | str, uid: str) -> Path:
    """Where the node notes that the logs of a pod are its own."""
    return Path(f"{root_dir}/pod-logs/{uid}")


def make(noted: Path, container_logs: Path) -> None:
    """Make a container's directory in its pod's, which is noted to be ours. Raises OSError."""
    try:
        os.mkdir(container_logs, 0o755)
    except FileExistsError:
        return
    except FileNotFoundError:
        pod_logs = os.path.dirname(container_logs)
        try:
            _note(pod_logs, noted)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(noted), 0o700, exist_ok=True)
            _note(pod_logs, noted)
        for directory in (pod_logs, container_logs):
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o755)


def _note(pod_logs: str, noted: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.symlink(pod_logs, noted)


def remove(noted: Path) -> None:
    """The pod is gone, and its logs go. Blocks. What cannot be removed is told of, and left."""
    try:
        logs = os.readlink(noted)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("logs of a pod that is gone are left: %s: %s", noted, error.strerror)
        return
    try:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(logs)
        os.unlink(noted)
    except OSError as error:
        logger.warning("logs of a pod that is gone are left in %s: %s", logs, error)


def up_to(directory: Path, number: int) -> list[Path]:
    """The logs of a container's attempts up to this one, in the order in which they were written.

    Those before it are what an agent left that was killed while it removed them. Raises OSError.
    """
    found = []
    for path in directory.glob("*.log*"):
        attempt, _, rest = path.name.partition(".log")
        if attempt.isdecimal() and int(attempt) <= number:
            # Of one attempt, the current file comes behind the rotated ones.
            found.append((int(attempt), not rest, rest, path))
    return [path for *_, path in sorted(found)]
