"""All of it in one value: the tasks, the pods with the tasks that work for them, the queues.

It exists so that `/debug` and a signal tell the same. It must not know who asks, nor how any of it is made.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from vkubelet.debug.tasks import TaskState, tasks
from vkubelet.pods.insight import PodInsight

Queue = Mapping[str, int]
"""How many there are of what waits or is under way, by the name for it."""


class PodState(msgspec.Struct, rename="camel", frozen=True):
    """A pod, and where each task that works for it stands, by the task's name."""

    pod: PodInsight
    tasks: dict[str, str]


class State(msgspec.Struct, rename="camel", frozen=True):
    """The agent at the moment `time` (seconds since the epoch)."""

    time: float
    process: int
    queues: dict[str, dict[str, int]]
    pods: list[PodState]
    tasks: list[TaskState]


class Diagnosis:
    """What can be told of this agent; for the thread of its event loop.

    From the beginning that is its tasks: a start that hangs is looked into as well.
    """

    def __init__(self) -> None:
        self._pods: Callable[[], list[PodInsight]] = list
        self._queues: Mapping[str, Callable[[], Queue]] = {}

    def tell_of(
        self, pods: Callable[[], list[PodInsight]], queues: Mapping[str, Callable[[], Queue]]
    ) -> None:
        """There are pods and queues now: all of these are called at each question."""
        self._pods, self._queues = pods, queues

    def pods(self) -> list[PodState]:
        """The pods, by namespace and name."""
        return joined(self._pods(), tasks())

    def queues(self) -> dict[str, dict[str, int]]:
        """What waits, by whose queue it is in."""
        return {name: dict(queue()) for name, queue in self._queues.items()}

    def state(self) -> State:
        """Everything."""
        found = tasks()
        return State(time.time(), os.getpid(), self.queues(), joined(self._pods(), found), found)


def joined(pods: Iterable[PodInsight], found: Iterable[TaskState]) -> list[PodState]:
    """Each pod with its tasks: those whose name has the pod's `namespace/name` as a word."""
    by_pod: dict[str, dict[str, str]] = {}
    for task in found:
        for word in task.name.split():
            if "/" in word:
                by_pod.setdefault(word, {})[task.name] = _own(task)
    ordered = sorted(pods, key=lambda pod: (pod.namespace, pod.name, pod.uid))
    return [PodState(pod, by_pod.get(f"{pod.namespace}/{pod.name}", {})) for pod in ordered]


def _own(task: TaskState) -> str:
    """The innermost frame that is the agent's own code, which says what is waited for."""
    own = [frame for frame in task.stack if frame.startswith(("vkubelet.", "providers.", "oci."))]
    return (own or list(task.stack) or [""])[-1]
