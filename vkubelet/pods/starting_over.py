"""A pod that begins anew since one of its containers ended as a restart rule says; pure.

It exists to hold the rules of RestartAllContainers (KEP-5532, the kubelet's getContainersToReset): all that
runs ends, and then all containers start again in their order, whatever came of them before. It must not know
how a container is ended or started. A kubelet removes the old containers; here they are marked, so that
people see how they ended; a new agent knows them by the life that their labels tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod
from vkubelet.pods.observed import NO_BACKOFF, Attempt, ContainerView, Waiting
from vkubelet.pods.restarts import restarts_all, should_restart

REASON = "RestartingAllContainers"
MESSAGE = "The container is removed because RestartAllContainers in place"


def may_start_over(pod: Pod) -> bool:
    """Whether a rule of the pod can ask for it (podutil.AllContainersCouldRestart)."""
    return any(
        rule.action == "RestartAllContainers"
        for container in _restartable(pod)
        for rule in container.restart_policy_rules or ()
    )


def sources(pod: Pod, views: Mapping[str, ContainerView]) -> frozenset[str]:
    """The containers whose end asks for it, until the pod has started over."""
    return frozenset(
        container.name
        for container in _restartable(pod)
        if (view := views.get(container.name)) is not None and _asks(container, view.latest)
    )


def started_over(pod: Pod, views: Mapping[str, ContainerView], now: float) -> dict[str, ContainerView]:
    """The views that change when nothing of the pod runs any more, and it begins anew.

    Those that asked for it keep their crash back-off (with a kubelet they have none): a container that asks
    for it as soon as it is started would keep the node busy.
    """
    asking, found = sources(pod, views), {}
    for container in _restartable(pod):
        view = views[container.name]
        if view.latest is None:
            continue
        if container.name in asking:
            retry_at = view.backoff.retry_at(view.latest.ended)
            latest, backoff = dataclasses.replace(view.latest, past=True), view.backoff
        else:
            retry_at, backoff = 0.0, NO_BACKOFF
            latest = dataclasses.replace(view.latest, past=True, reset=True)
        waiting = Waiting(REASON, MESSAGE, now, retry_at)
        found[container.name] = dataclasses.replace(view, latest=latest, backoff=backoff, waiting=waiting)
    return found


def life(views: Mapping[str, ContainerView]) -> int:
    """How often the pod has started over, as far as something was started since."""
    attempts = (attempt for view in views.values() for attempt in (view.latest, view.previous))
    return max((attempt.life for attempt in attempts if attempt is not None), default=0)


def resumed(pod: Pod, views: Mapping[str, ContainerView]) -> dict[str, ContainerView]:
    """The views that change when a new agent comes to know of a pod that an earlier one has started over.

    What is of an earlier life is marked again. And where the pod was about to start over, those that had been
    ended for it are known by having ended after the one that asks.
    """
    current, found = life(views), {}
    for container in _restartable(pod):
        view = views[container.name]
        latest = _marked(container, view.latest, current)
        found[container.name] = dataclasses.replace(
            view, latest=latest, previous=_marked(container, view.previous, current)
        )
    asking = sources(pod, found)
    since = min((_ended(found[name].latest) for name in asking), default=0)
    if not asking or _was_over(pod, found, since):
        return found
    return {
        name: dataclasses.replace(view, restart=name not in asking and _ended(view.latest) >= since)
        for name, view in found.items()
    }


def _restartable(pod: Pod) -> Iterator[Container]:
    """Ephemeral containers are left alone."""
    yield from pod.spec.init_containers or ()
    yield from pod.spec.containers or ()


def _asks(container: Container, attempt: Attempt | None) -> bool:
    return (
        attempt is not None
        and attempt.exit is not None
        and not attempt.past
        and restarts_all(container, attempt.exit.code)
    )


def _marked(container: Container, attempt: Attempt | None, current: int) -> Attempt | None:
    if attempt is None or attempt.life == current or attempt.past:
        return attempt
    return dataclasses.replace(attempt, past=True, reset=not _asks(container, attempt))


def _was_over(pod: Pod, views: Mapping[str, ContainerView], since: int) -> bool:
    """Whether the pod had ended by itself before the end that asks, which then asks for nothing."""
    own = [(container, views[container.name]) for container in pod.spec.containers or ()]
    return all(
        view.latest is not None
        and view.latest.exit is not None
        and _ended(view.latest) < since
        and not should_restart(pod, container, view)
        for container, view in own
    )


def _ended(attempt: Attempt | None) -> int:
    """When, in nanoseconds; 0 if it has not."""
    return attempt.exit.finished_at if attempt is not None and attempt.exit is not None else 0
