"""What probes mean for a container: whether it has started, is ready, or must be restarted; pure.

It exists because `plan`, the status and the order of init containers must agree on it. It must not know how a
probe is made or how often.
"""

from __future__ import annotations

import dataclasses

from vkubelet.api.containers import Container, Probe
from vkubelet.pods.observed import ContainerView


@dataclasses.dataclass(frozen=True, slots=True)
class Unhealthy:
    """A probe failed for good: its name in events, and the probe itself."""

    kind: str
    probe: Probe


def is_started(container: Container, view: ContainerView) -> bool:
    """It runs, its postStart hook is done, and its startup probe, if there is one, has succeeded."""
    if view.running is None or view.starting:
        return False
    return container.startup_probe is None or view.probed.startup is True


def is_ready(container: Container, view: ContainerView) -> bool:
    """It has started, and its readiness probe, if there is one, succeeds."""
    if not is_started(container, view):
        return False
    return container.readiness_probe is None or view.probed.readiness is True


def unhealthy(container: Container, view: ContainerView) -> Unhealthy | None:
    """The probe that asks for the running container's end, if one does."""
    if view.running is None:
        return None
    if container.liveness_probe is not None and view.probed.liveness is False:
        return Unhealthy("liveness", container.liveness_probe)
    if container.startup_probe is not None and view.probed.startup is False:
        return Unhealthy("startup", container.startup_probe)
    return None
