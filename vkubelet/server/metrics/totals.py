"""A pod's processor time, which never shrinks: that of its containers, those that have ended included.

It exists because a kubelet reads it from the pod's control group, which outlives the pod's containers, while
here every container is measured by itself. It must not know how.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping


@dataclasses.dataclass(slots=True)
class _Pod:
    seen: dict[str, int] = dataclasses.field(default_factory=dict)
    ended: int = 0


class PodTotals:
    """The totals of pods by uid; what a container used after it was last looked at is not in them."""

    def __init__(self) -> None:
        self._pods: dict[str, _Pod] = {}

    def total(self, uid: str, running: Mapping[str, int]) -> int:
        """The pod's processor time, given those of its `running` containers by their ids."""
        pod = self._pods.setdefault(uid, _Pod())
        for container_id in pod.seen.keys() - running.keys():
            pod.ended += pod.seen.pop(container_id)
        pod.seen.update(running)
        return pod.ended + sum(pod.seen.values())

    def keep(self, uids: Iterable[str]) -> None:
        """Forget all other pods: they are gone."""
        for uid in self._pods.keys() - set(uids):
            del self._pods[uid]
