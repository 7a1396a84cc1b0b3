"""How the kubelet API finds a container's log: the interface between the server and the pods.

It exists because the server may know the pods' side but not the other way round: the server asks through
`ContainerDirectory`, and the workers' side answers from what it knows of its pods. It must know neither
HTTP nor how a log is read. The messages are the kubelet's (getContainerLogs and validateContainerLogStatus
of k8s.io/kubernetes), because `kubectl logs` shows them to people as they are.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Protocol


class LogLookupError(LookupError):
    """There is no log to read; the text is the kubelet's message for it."""


class PodNotFoundError(LogLookupError):
    """No pod of this name is on this node."""

    def __init__(self, pod: str) -> None:
        """`pod` is its name; like the kubelet, the message leaves its namespace out."""
        super().__init__(f"pod {_quoted(pod)} does not exist")


class ContainerNotFoundError(LogLookupError):
    """The pod has no container, init container or ephemeral container of this name."""

    def __init__(self, container: str, pod: str) -> None:
        """The pod is there, `container` is not in its spec."""
        super().__init__(f"container {_quoted(container)} not found in pod {_quoted(pod)}")


class ContainerNotReadyError(LogLookupError):
    """The container is in the pod's spec, but has no log (yet, or any more)."""

    @classmethod
    def unavailable(cls, container: str, pod: str) -> ContainerNotReadyError:
        """The pod's status has no entry for it."""
        return cls(f"{_of(container, pod)} is not available")

    @classmethod
    def no_previous(cls, container: str, pod: str) -> ContainerNotReadyError:
        """`previous` was asked for, and the container has not been restarted."""
        return cls(f"previous terminated {_of(container, pod)} not found")

    @classmethod
    def terminated(cls, container: str, pod: str) -> ContainerNotReadyError:
        """It ended without ever having been started."""
        return cls(f"{_of(container, pod)} is terminated")

    @classmethod
    def waiting(cls, container: str, pod: str, reason: str) -> ContainerNotReadyError:
        """It waits to be started for the first time; `reason` is that of its waiting state, or empty."""
        known = {
            "ErrImagePull": ": image can't be pulled",
            "ImagePullBackOff": ": trying and failing to pull image",
            "": " - no logs yet",
        }
        return cls(f"{_of(container, pod)} is waiting to start{known.get(reason, f': {reason}')}")


@dataclasses.dataclass(frozen=True, slots=True)
class LogSource:
    """One container's log.

    `path` is the current file, `.../N.log`; its writer rotates it by renaming it to `N.log.TIME` and
    making a new one. `end` is set once the container has ended, which is when nothing more is written.
    """

    path: Path
    end: asyncio.Event

    def ended(self) -> bool:
        """Whether all that will ever be in the log has been written."""
        return self.end.is_set()


class ContainerDirectory(Protocol):
    """What the kubelet API may ask about containers."""

    def log_file(
        self, namespace: str, pod: str, container: str, *, uid: str | None, previous: bool
    ) -> LogSource:
        """The log of the container's current attempt, or of the one before it if `previous`.

        `uid`, if not None, is that of the one pod meant. The three names come from a request and may be
        any text: they are looked up, never made part of a path. Raises PodNotFoundError,
        ContainerNotFoundError or ContainerNotReadyError.
        """
        ...


def _of(container: str, pod: str) -> str:
    return f"container {_quoted(container)} in pod {_quoted(pod)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
