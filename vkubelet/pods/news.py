"""Whether a new version of a pod's object can change what the node does for it; pure.

It exists because most versions are the echo of the node's own status patch: a pod that starts would be
planned and its status made once more for nothing. It must not know what follows from news.
"""

from __future__ import annotations

from vkubelet.api.objects import Pod
from vkubelet.pods.phase import TERMINAL_PHASES


def is_news(before: Pod, after: Pod) -> bool:
    """True unless `after` differs only in what the node itself reports, or in what it never reads."""
    old, new = before.metadata, after.metadata
    return (
        new.generation != old.generation
        or new.deletion_timestamp != old.deletion_timestamp
        or new.deletion_grace_period_seconds != old.deletion_grace_period_seconds
        or new.labels != old.labels
        or new.annotations != old.annotations
        or after.spec != before.spec
        or _status_is_news(before, after)
    )


def _status_is_news(before: Pod, after: Pod) -> bool:
    """Others end pods by their phase, and set the conditions that readiness gates wait for."""
    if after.status.phase != before.status.phase and after.status.phase in TERMINAL_PHASES:
        return True
    return bool(after.spec.readiness_gates) and after.status.conditions != before.status.conditions
