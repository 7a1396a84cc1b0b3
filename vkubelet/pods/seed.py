"""What a new worker knows of its pod before it has done anything; pure.

It exists because a pod may have a past: containers that an earlier agent started (the provider's records),
or, when those are gone with a reboot, what the API server was last told. Restart counts, the last state
and back-off carry on from there.
"""

from __future__ import annotations

from collections.abc import Iterable

from providers.base import Exit, ExitReason
from vkubelet.api import times
from vkubelet.api.objects import ContainerStateTerminated, ContainerStatus, Pod
from vkubelet.pods.observed import NOT_PROBED, SECOND, Attempt, ContainerView, Probed
from vkubelet.pods.records import Record
from vkubelet.pods.starting_over import REASON, resumed

_LOST = "The container could not be located when the node agent started"


def seed(pod: Pod, records: Iterable[Record], now: float) -> dict[str, ContainerView]:
    """A view of each container of the spec, from its records or else from its reported status."""
    by_container: dict[str, list[Record]] = {}
    for found in sorted(records, key=lambda record: record.attempt.number):
        by_container.setdefault(found.container, []).append(found)
    statuses = (
        pod.status.init_container_statuses,
        pod.status.container_statuses,
        pod.status.ephemeral_container_statuses,
    )
    reported = {status.name: status for group in statuses for status in group or ()}
    views = {}
    for container in pod.spec.all_containers():
        own = by_container.get(container.name)
        if own:
            previous = own[-2].attempt if len(own) > 1 else None
            probed = _probed(own[-1].attempt, reported.get(container.name))
            views[container.name] = ContainerView(
                own[-1].attempt, previous, backoff=own[-1].backoff, probed=probed
            )
        elif container.name in reported:
            views[container.name] = _from_status(reported[container.name], now)
        else:
            views[container.name] = ContainerView()
    return {**views, **resumed(pod, views)}


def _probed(attempt: Attempt, status: ContainerStatus | None) -> Probed:
    """A container that goes on stays as ready as it was last said to be, until its probes are made again."""
    if status is None or attempt.exit is not None or _identifier(status.container_id) != attempt.id:
        return NOT_PROBED
    return Probed(startup=status.started or None, readiness=status.ready)


def _from_status(status: ContainerStatus, now: float) -> ContainerView:
    previous = _terminated(status, status.last_state.terminated, status.restart_count - 1)
    if status.state.terminated is not None:
        return ContainerView(_terminated(status, status.state.terminated, status.restart_count), previous)
    if status.state.running is not None:
        started = _nanoseconds(status.state.running.started_at)
        end = Exit(137, ExitReason.KILLED, _LOST, started, int(now * SECOND))
        identifier = _identifier(status.container_id)
        latest = Attempt(identifier, status.restart_count, status.image_id, started, end, past=True)
        return ContainerView(latest, previous)
    if status.last_state.terminated is not None:
        return ContainerView(_terminated(status, status.last_state.terminated, status.restart_count))
    return ContainerView()


def _terminated(status: ContainerStatus, end: ContainerStateTerminated | None, number: int) -> Attempt | None:
    if end is None:
        return None
    reason = {
        "Completed": ExitReason.COMPLETED,
        "OOMKilled": ExitReason.OUT_OF_MEMORY,
        "StartError": ExitReason.CANNOT_RUN,
    }.get(end.reason, ExitReason.ERROR)
    started = _nanoseconds(end.started_at)
    record = Exit(end.exit_code, reason, end.message, started, _nanoseconds(end.finished_at), end.signal)
    identifier = _identifier(end.container_id)
    return Attempt(
        identifier,
        max(number, 0),
        status.image_id,
        started,
        record,
        past=True,
        reset=end.reason == REASON,
    )


def _identifier(container_id: str) -> str:
    return container_id.partition("://")[2]


def _nanoseconds(time: str | None) -> int:
    return int(times.parse(time)) * SECOND if time else 0
