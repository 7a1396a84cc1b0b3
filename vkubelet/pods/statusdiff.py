"""The strategic merge patch from one pod status to another; pure.

It exists so that the node writes only what it owns and only what changed: lists of conditions and
addresses merge by key on the server, container lists are replaced whole, and a field that was cleared is
sent as null. It must not know how or when a patch is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from vkubelet.api.objects import PodCondition, PodStatus

_encoder = msgspec.json.Encoder()


def status_patch(uid: str, before: PodStatus, after: PodStatus) -> bytes | None:
    """The patch for `pods/NAME/status`, or None when nothing differs.

    The uid makes the server refuse the patch (409) when another pod has taken the name.
    """
    changed: dict[str, Any] = {}
    for field in PodStatus.__struct_fields__:
        old, new = getattr(before, field), getattr(after, field)
        if old == new:
            continue
        if field == "conditions":
            new = _changed_conditions(old or (), new or ())
            if not new:
                continue
        elif field in _MERGED and old and new:
            new = msgspec.to_builtins(new) | {"$patch": "replace"}
        changed[_WIRE[field]] = new or None
    if not changed:
        return None
    return _encoder.encode({"metadata": {"uid": uid}, "status": changed})


def _changed_conditions(
    before: Sequence[PodCondition], after: Sequence[PodCondition]
) -> list[dict[str, Any]]:
    """The conditions that differ; what one of them no longer says is null, for the server merges fields."""
    known = {condition.type: condition for condition in before}
    changed = []
    for condition in after:
        old = known.get(condition.type)
        if old != condition:
            cleared = dict.fromkeys(msgspec.to_builtins(old)) if old is not None else {}
            changed.append(cleared | msgspec.to_builtins(condition))
    left = {condition.type for condition in after}
    gone = [kind for kind in _PASSING if kind in known and kind not in left]
    return changed + [{"type": kind, "$patch": "delete"} for kind in gone]


_MERGED = ("allocated_resources", "resources")
"""Fields whose keys the server would keep, unless it is told that what is sent is all."""

_PASSING = ("PodResizePending", "PodResizeInProgress")
"""Conditions of the node's own that are not there for most of the time."""

_WIRE = dict(zip(PodStatus.__struct_fields__, PodStatus.__struct_encode_fields__, strict=True))
