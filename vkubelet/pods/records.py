"""How a container's labels tell which pod, container and attempt it is, and back; pure.

It exists because labels are all that a provider keeps for the agent: a new agent recognises what an old
one started by them alone. Keys are those that kubelets give to their runtimes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from providers.base import ContainerState, Identity
from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod
from vkubelet.pods.backoff import Backoff
from vkubelet.pods.observed import Attempt

_UID = "io.kubernetes.pod.uid"
_NAMESPACE = "io.kubernetes.pod.namespace"
_POD = "io.kubernetes.pod.name"
_CONTAINER = "io.kubernetes.container.name"
_RESTARTS = "io.kubernetes.container.restartCount"
_IMAGE = "vkubelet.dev/image-id"
_BACKOFF = "vkubelet.dev/backoff"
_USER = "vkubelet.dev/user"
_LIFE = "vkubelet.dev/life"
_IMAGE_NAME = "vkubelet.dev/image"


class ForeignContainerError(ValueError):
    """A container whose labels no kubelet of ours wrote; the text names the label."""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A container of the provider, seen as an attempt of a pod's container."""

    uid: str
    namespace: str
    pod: str
    container: str
    attempt: Attempt
    backoff: Backoff
    state: ContainerState


def labels(
    pod: Pod,
    container: Container,
    number: int,
    life: int,
    image_id: str,
    backoff: Backoff,
    user: Identity,
) -> dict[str, str]:
    """The labels of attempt `number`; `backoff` is the crash back-off in force once it has started.

    `life` is how often the pod has started over, and `user` whom the process runs as.
    """
    found = {
        _UID: pod.metadata.uid,
        _NAMESPACE: pod.metadata.namespace,
        _POD: pod.metadata.name,
        _CONTAINER: container.name,
        _RESTARTS: str(number),
        _IMAGE: image_id,
        _IMAGE_NAME: container.image,
        _BACKOFF: f"{backoff.delay} {backoff.updated}",
        _USER: " ".join(map(str, (user.uid, user.gid, *user.groups))),
    }
    return {**found, _LIFE: str(life)} if life else found


def image_of(found: Mapping[str, str]) -> str:
    """The image id that a container's labels carry, `registry/repository@digest`."""
    return found.get(_IMAGE, "")


def container_of(found: Mapping[str, str]) -> tuple[str, str]:
    """The pod's uid and the container's name that a container's labels carry; empty where they do not."""
    return found.get(_UID, ""), found.get(_CONTAINER, "")


def record(state: ContainerState) -> Record:
    """What a container's labels say. Raises ForeignContainerError."""
    found: Mapping[str, str] = state.labels
    try:
        delay, updated = found[_BACKOFF].split(" ")
        return Record(
            uid=found[_UID],
            namespace=found[_NAMESPACE],
            pod=found[_POD],
            container=found[_CONTAINER],
            attempt=attempt(state),
            backoff=Backoff(float(delay), float(updated)),
            state=state,
        )
    except (KeyError, ValueError) as error:
        raise ForeignContainerError(f"container {state.id}: label {error}") from error


def attempt(state: ContainerState) -> Attempt:
    """The attempt that a container is."""
    return Attempt(
        id=state.id,
        number=int(state.labels[_RESTARTS]),
        image_id=state.labels[_IMAGE],
        started_at=state.started_at,
        exit=state.exit,
        user=_user(state.labels.get(_USER)),
        life=int(state.labels.get(_LIFE, "0")),
        image=state.labels.get(_IMAGE_NAME, ""),
    )


def _user(text: str | None) -> Identity | None:
    """None for what an earlier version has started. Raises ValueError."""
    if text is None:
        return None
    uid, gid, *groups = map(int, text.split())
    return Identity(uid, gid, tuple(groups))
