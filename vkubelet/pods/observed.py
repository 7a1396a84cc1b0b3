"""What a worker has seen of its pod, as values: the input of `plan` and `pod_status`.

It exists so that decisions are functions of data. It must not know how anything was observed. Times are
seconds by `vkubelet.clock`, but for those that are shown: the provider's own, which are nanoseconds of the
time of day, and when a pod was taken.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from providers.base import Exit, Identity
from vkubelet.api.containers import ResourceRequirements
from vkubelet.api.objects import PodCondition
from vkubelet.pods.backoff import Backoff
from vkubelet.pods.resources import Applied

SECOND = 1_000_000_000
NO_BACKOFF = Backoff()


@dataclasses.dataclass(frozen=True, slots=True)
class Probed:
    """What the probes of a running attempt have come to; None while one has come to nothing, or is not there.

    `startup` and `liveness` are False once they failed for good, `readiness` may change both ways.
    """

    startup: bool | None = None
    readiness: bool | None = None
    liveness: bool | None = None


NOT_PROBED = Probed()


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """One container that was started: its number is the restart count it stands for.

    `image` is what the pod's spec named then, empty where that is not known.

    `past` tells that its pod begins anew after it, with its init containers: it was of an earlier boot of the
    node, known from the reported status only, or a container's end had all start over. `reset` tells that it
    is to be restarted for the latter, whatever came of it. `life` counts how often the pod had started over.
    """

    id: str
    number: int
    image_id: str
    started_at: int
    exit: Exit | None = None
    past: bool = False
    reset: bool = False
    user: Identity | None = None
    life: int = 0
    image: str = ""
    end_seen: float | None = None
    """When it ended, by the clock of decisions; None: as its record says, for nobody set the time of day."""

    @property
    def ended(self) -> float:
        """When an attempt that has ended did, by the clock of decisions."""
        if self.end_seen is not None or self.exit is None:
            return self.end_seen or 0.0
        return self.exit.finished_at / SECOND


@dataclasses.dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container is not running, in the kubelet's words, since when, and when it is tried again.

    With `image`, only as long as the container has that image.
    """

    reason: str
    message: str
    since: float = 0.0
    retry_at: float = 0.0
    image: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerView:
    """What is known of one container of the pod: its last attempts, and a start under way or failed.

    `starting` holds until the start's last step is done, which is the postStart hook: until then a container
    whose process is there already is not shown as running. `restart` asks for it anew once it has ended,
    whatever its restart policy says: it was ended to be restarted.
    """

    latest: Attempt | None = None
    previous: Attempt | None = None
    waiting: Waiting | None = None
    starting: bool = False
    backoff: Backoff = NO_BACKOFF
    probed: Probed = NOT_PROBED
    restart: bool = False

    @property
    def running(self) -> Attempt | None:
        """The attempt that runs, if one does."""
        return self.latest if self.latest is not None and self.latest.exit is None else None


class StopCause(enum.Enum):
    """Why a pod's containers must end and not start again."""

    DELETED = "deleted"  # deletionTimestamp is set: end, report, then delete the object
    GONE = "gone"  # the object does not exist any more: end and report nothing
    TERMINAL = "terminal"  # its phase is Succeeded or Failed already: what still runs must end
    REJECTED = "rejected"  # admission refused it: phase Failed
    DEADLINE = "deadline"  # activeDeadlineSeconds is over: phase Failed
    EVICTED = "evicted"  # the node lacks a resource, or the pod uses too much of one: phase Failed
    SHUTDOWN = "shutdown"  # the node drains: phase Failed


@dataclasses.dataclass(frozen=True, slots=True)
class Rejection:
    """Why admission refused a pod: the reason and message of its status and event."""

    reason: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Eviction:
    """Why a running pod is ended by the node: its status' message, and the seconds its containers get.

    `disruption` is the message of the condition DisruptionTarget, for a pod that is not to blame itself.
    """

    message: str
    grace_seconds: int
    reason: str = "Evicted"
    disruption: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ResizeView:
    """What the running containers, and the pod as a whole, are held to, and what is told of a resize."""

    applied: Mapping[str, Applied]
    whole: ResourceRequirements | None = None
    conditions: tuple[PodCondition, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class VolumesView:
    """What is known of the pod's volumes. `retry_at` is when mounts that failed are tried again.

    `coming` is said while they are mounted, when there is nothing left to wait for but tokens: containers
    are made ready to start meanwhile.
    """

    mounted: bool = True
    mounting: bool = False
    coming: bool = False
    retry_at: float = 0.0


NO_VOLUMES = VolumesView()


@dataclasses.dataclass(frozen=True, slots=True)
class Observed:
    """All that was seen of a pod.

    `started_at` is when this node first took it, whole seconds of the time of day; `since` is the same by the
    clock of decisions (None: nobody set the time of day), which the time of day is `ahead` of.
    """

    containers: Mapping[str, ContainerView]
    started_at: float
    volumes: VolumesView = NO_VOLUMES
    rejection: Rejection | None = None
    eviction: Eviction | None = None
    resize: ResizeView | None = None
    gone: bool = False
    draining: bool = False
    since: float | None = None
    ahead: float = 0.0

    @property
    def taken_at(self) -> float:
        """When this node first took the pod, by the clock of decisions."""
        return self.started_at if self.since is None else self.since
