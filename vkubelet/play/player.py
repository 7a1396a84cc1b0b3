"""Runs the pods of a script in the foreground, and ends with them.

It exists to decide when a play is over: when all its pods are, when one of them cannot be started, or when
the caller wants no more of it; and what its exit code is. It must not know files, terminals or how a pod is
run.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable

from vkubelet.api.objects import ContainerStatus, ObjectReference, Pod, PodStatus
from vkubelet.pods.manifests.reading import Manifest
from vkubelet.pods.phase import TERMINAL_PHASES
from vkubelet.pods.static.source import NoMirrors, StaticPods

CANNOT = 125
"""The exit code of a play that could not run its pods, as container engines have it."""

# Reasons that a container waits for and that nothing will change while this process runs.
_HOPELESS = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "InvalidImageName",
        "RunContainerError",
    }
)
_HOPELESS_EVENTS = frozenset({"FailedMount"})


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a play ended: the exit code and, where no container has it, why."""

    code: int
    cause: str = ""


def hopeless(pod: Pod, status: PodStatus) -> str | None:
    """Why a pod will never run as it is; None as long as it may. What has run once may run again."""
    if status.phase == "Failed" and not _ended(status):
        return f"pod {pod.metadata.name}: {status.reason}: {status.message}"
    for container in _all(status):
        waiting = container.state.waiting
        fresh = container.last_state.terminated is None and container.restart_count == 0
        if waiting is not None and fresh and waiting.reason in _HOPELESS:
            return f"pod {pod.metadata.name}, container {container.name}: {waiting.reason}: {waiting.message}"
    return None


def outcome(statuses: Iterable[PodStatus]) -> Outcome:
    """The exit code of containers that have all ended: the first that is not 0, in the order of the file."""
    for status in statuses:
        for container in _ended(status):
            end = container.state.terminated or container.last_state.terminated
            if end is not None and end.exit_code != 0:
                return Outcome(end.exit_code)
    return Outcome(0)


class Player(NoMirrors):
    """One play. Implements Mirrors: static pods are shown to it, and it to nobody."""

    def __init__(self, pods: Iterable[Manifest]) -> None:
        self._pods = {manifest.pod.metadata.uid: manifest for manifest in pods}
        self._statuses: dict[str, PodStatus] = {}
        self._left: set[str] = set()
        self._failure = ""
        self._wanted = True
        self._news = asyncio.Event()

    @property
    def stopped(self) -> bool:
        """Whether `stop` has been called."""
        return not self._wanted

    def stop(self) -> None:
        """The caller wants no more of it."""
        self._wanted = False
        self._news.set()

    def failed(self, ref: ObjectReference, reason: str, message: str) -> None:
        """The warning of an event."""
        if reason in _HOPELESS_EVENTS:
            self._fail(f"pod {ref.name}: {reason}: {message}")

    def report(self, pod: Pod, status: PodStatus) -> None:
        """See Mirrors."""
        self._statuses[pod.metadata.uid] = status
        cause = hopeless(pod, status)
        if cause is not None:
            self._fail(cause)
        self._news.set()

    def show(self, manifests: Iterable[Manifest], leaving: Iterable[Manifest]) -> None:
        """See Mirrors."""
        self._left = {manifest.pod.metadata.uid for manifest in (*manifests, *leaving)}
        self._news.set()

    async def run(self, pods: StaticPods) -> Outcome:
        """Run all pods until they are over, and nothing is left of them."""
        pods.update(self._pods.values())
        await self._until_over()
        pods.update([])
        while self._left:
            self._news.clear()
            await self._news.wait()
        if self._failure:
            return Outcome(CANNOT, self._failure)
        return outcome(self._statuses[uid] for uid in self._pods if uid in self._statuses)

    async def _until_over(self) -> None:
        while self._wanted and not self._failure and not self._over():
            self._news.clear()
            await self._news.wait()

    def _over(self) -> bool:
        return all(
            uid in self._statuses and self._statuses[uid].phase in TERMINAL_PHASES for uid in self._pods
        )

    def _fail(self, cause: str) -> None:
        # What fails once the pods are being ended is no news.
        if self._wanted:
            self._failure = self._failure or cause
        self._news.set()


def _all(status: PodStatus) -> list[ContainerStatus]:
    return [*(status.init_container_statuses or ()), *(status.container_statuses or ())]


def _ended(status: PodStatus) -> list[ContainerStatus]:
    return [
        container
        for container in _all(status)
        if container.state.terminated is not None or container.last_state.terminated is not None
    ]
