"""When a container that is to start may, and what is said of it until then; pure.

It exists because starts that failed, crashes and a changed image all have a say in it. It must not know who
starts it. The rules are those of the kubelet's doBackOff and of its image manager: a container with another
image is another container, and waits for nothing.
"""

from __future__ import annotations

import dataclasses

from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod
from vkubelet.pods.backoff import go_duration
from vkubelet.pods.observed import Attempt, ContainerView, Waiting
from vkubelet.pods.text import pod_text

# How long ErrImagePull and PostStartHookError are shown before the container is tried again, or backs off:
# one sync of a kubelet.
ERROR_SHOWN = 1.0
PULL_FAILED = ("ErrImagePull", "SignatureValidationFailed")
"""Reasons to wait that are followed by ImagePullBackOff."""


def is_changed(container: Container, attempt: Attempt) -> bool:
    """Whether the container has another image now; of attempts of earlier agents it is not known."""
    return attempt.image not in ("", container.image)


def retry_at(container: Container, view: ContainerView) -> float:
    """When a container that is to start may: a failed start's own time, else the crash back-off's."""
    waiting, latest = view.waiting, view.latest
    if waiting is not None:
        return waiting.retry_at if waiting.image in ("", container.image) else 0.0
    if latest is None or latest.exit is None or is_changed(container, latest):
        return 0.0
    due = view.backoff.retry_at(latest.ended)
    return 0.0 if due == latest.ended else due


def crash_loop(pod: Pod, container: Container, view: ContainerView, now: float) -> Waiting:
    """The kubelet's waiting state of a container in crash back-off."""
    delay = go_duration(view.backoff.delay)
    message = f"back-off {delay} restarting failed container={container.name} pod={pod_text(pod)}"
    return Waiting("CrashLoopBackOff", message, now, retry_at(container, view), container.image)


def hook_failed(container: Container, view: ContainerView, message: str, now: float) -> Waiting:
    """The kubelet's waiting state of a container that was ended because its postStart hook failed."""
    due = retry_at(container, dataclasses.replace(view, waiting=None))
    return Waiting("PostStartHookError", message, now, max(due, now + ERROR_SHOWN), container.image)


def pull_back_off(container: Container, failed: Waiting) -> Waiting:
    """The kubelet's waiting state between two tries to pull an image; it keeps the last error's text."""
    message = f'Back-off pulling image "{container.image}": {failed.reason}: {failed.message}'
    return Waiting("ImagePullBackOff", message, failed.since, failed.retry_at, container.image)
