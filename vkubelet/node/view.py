"""The node as admission sees it: what it has been found to have, and what others have made of its object.

It exists as a pure function, between the node's object and the pods, which know no object of a node. It must
not ask anybody.
"""

from __future__ import annotations

from collections.abc import Mapping

from vkubelet.config import Config, Taint
from vkubelet.node import status
from vkubelet.node.facts import Facts
from vkubelet.node.status import NodeObject
from vkubelet.pods.fit import NodeView
from vkubelet.pods.resources import counted, is_extended
from vkubelet.pods.text import quantity


def node_view(config: Config, facts: Facts, seen: NodeObject | None) -> NodeView:
    """The node as it is known by its object, or by its configuration while there is no object (`seen` None).

    What it has of Kubernetes' own resources is what was found here; extended ones may be given to its object
    by anybody.
    """
    allocatable = facts.allocatable
    amounts = {
        "cpu": allocatable.millicores,
        "memory": allocatable.memory,
        "ephemeral-storage": allocatable.storage,
        "pods": allocatable.pods,
    }
    if seen is None:
        labels: Mapping[str, str] = status.labels(config)
        taints = config.register_with_taints
    else:
        labels = seen.metadata.labels or {}
        taints = tuple(
            Taint(key=taint.key, value=taint.value, effect=taint.effect) for taint in seen.spec.taints or ()
        )
        amounts |= _extended(seen.status.allocatable or {})
    memory = facts.capacity.memory // 1024 * 1024  # as its object shows it
    return NodeView(config.node_name, labels, taints, {**amounts, **allocatable.extended}, memory)


def _extended(amounts: Mapping[str, str]) -> dict[str, int]:
    return {name: counted(name, quantity(amount)) for name, amount in amounts.items() if is_extended(name)}
