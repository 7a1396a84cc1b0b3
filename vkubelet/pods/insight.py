"""What a pod's worker knows and waits for, for whoever has to find out why the pod is not further.

It exists as a pure function of what the worker has seen, so that looking changes nothing. It tells no values
of the environment, no messages and no arguments: what is told here may be read by who may not read the pod's
secrets. It must not know who asks.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vkubelet.api.objects import Pod
from vkubelet.pods.observed import ContainerView, Observed


class ContainerInsight(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """One container: `state` is waiting, starting, running or terminated, for `reason` where there is one."""

    name: str
    state: str
    reason: str = ""
    restart_count: int = 0
    id: str = ""
    exit_code: int | None = None
    probed: dict[str, bool] = {}


class PodInsight(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """One pod. `waits_for` is never empty; times are seconds."""

    namespace: str
    name: str
    uid: str
    phase: str
    seconds_here: float
    waits_for: tuple[str, ...]
    volumes: str
    containers: tuple[ContainerInsight, ...]
    rejected: str = ""
    evicted: str = ""
    deleting: bool = False
    gone: bool = False
    draining: bool = False


def insight(pod: Pod, seen: Observed, now: float) -> PodInsight:
    """What there is to tell of a pod of which this was seen; its phase is the API server's."""
    meta, volumes = pod.metadata, seen.volumes
    return PodInsight(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        phase=pod.status.phase,
        seconds_here=round(now - seen.taken_at, 3),
        waits_for=tuple(_waits(pod, seen, now)) or ("news",),
        volumes="mounting" if volumes.mounting else "mounted" if volumes.mounted else "missing",
        containers=tuple(_container(name, view) for name, view in seen.containers.items()),
        rejected=seen.rejection.reason if seen.rejection else "",
        evicted=seen.eviction.reason if seen.eviction else "",
        deleting=meta.deletion_timestamp is not None,
        gone=seen.gone,
        draining=seen.draining,
    )


def _container(name: str, view: ContainerView) -> ContainerInsight:
    latest = view.latest
    exit_code = latest.exit.code if latest is not None and latest.exit is not None else None
    if view.starting:
        state = "starting"
    elif view.waiting is not None or latest is None:
        state = "waiting"
    else:
        state = "running" if latest.exit is None else "terminated"
    probed = {
        "startup": view.probed.startup,
        "readiness": view.probed.readiness,
        "liveness": view.probed.liveness,
    }
    return ContainerInsight(
        name=name,
        state=state,
        reason=view.waiting.reason if view.waiting is not None else "",
        restart_count=latest.number if latest is not None else 0,
        id=latest.id if latest is not None else "",
        exit_code=exit_code,
        probed={kind: verdict for kind, verdict in probed.items() if verdict is not None},
    )


def _waits(pod: Pod, seen: Observed, now: float) -> Iterator[str]:
    ends = bool(seen.gone or seen.draining or seen.eviction or pod.metadata.deletion_timestamp)
    if seen.volumes.mounting:
        yield "its volumes to be mounted"
    elif not seen.volumes.mounted and seen.volumes.retry_at > now:
        yield f"the next try to mount its volumes, in {seen.volumes.retry_at - now:.1f} s"
    for name, view in seen.containers.items():
        if view.starting:
            yield f"the start of container {name}"
        elif view.waiting is not None and view.waiting.retry_at > now:
            yield f"the next try to start container {name}, in {view.waiting.retry_at - now:.1f} s"
        elif view.running is not None and ends:
            yield f"the end of container {name}"
