"""What the toolbox's `ps` shows: the pod's containers, as a file in a directory of the pod's own.

It exists because a guest sees no processes: what it may know of its pod is written for it. It must not know
who reads it. The directory is runtime state: it is made for the first who asks, and goes with its pod.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from providers import intact
from vkubelet.api.objects import Pod
from vkubelet.api.times import rfc3339
from vkubelet.pods.observed import SECOND, ContainerView

GUEST_PATH = "/.vkubelet/pod"
"""Where the toolbox looks for it."""
_FILE = "containers.json"


def directory(run_dir: Path, uid: str) -> Path:
    """The host's directory of a pod's file."""
    return run_dir / "podinfo" / uid


def describe(pod: Pod, views: Mapping[str, ContainerView], pids: Mapping[str, int]) -> bytes:
    """The file's content: a JSON list with an object for each container that was started."""
    found = []
    for container in pod.spec.all_containers():
        latest = views.get(container.name, ContainerView()).latest
        if latest is None:
            continue
        found.append(
            {
                "container": container.name,
                "state": "running" if latest.exit is None else f"exited ({latest.exit.code})",
                "pid": pids.get(latest.id, 0) if latest.exit is None else 0,
                "started_at": rfc3339(latest.started_at / SECOND),
                "restarts": latest.number,
                "command": [
                    *(container.command or [container.image.rpartition("/")[2]]),
                    *(container.args or ()),
                ],
            }
        )
    return msgspec.json.encode(found)


def make(where: Path) -> None:
    """Make the directory unless it is there, as guests may have it open. Raises OSError."""
    where.mkdir(mode=0o700, parents=True, exist_ok=True)


def write(where: Path, content: bytes) -> None:
    """Put the file in place whole, in a directory that is made again if it was lost. Raises OSError."""
    make(where)
    fresh = where / f".{_FILE}.new"
    fresh.write_bytes(content)
    intact.replace(fresh, where / _FILE)


def remove(where: Path) -> None:
    """The pod is gone."""
    shutil.rmtree(where, ignore_errors=True)
