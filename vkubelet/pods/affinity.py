"""Whether a pod may be on a node by its selector, its required node affinity and its tolerations; pure.

It exists because a kubelet checks again what the scheduler has decided: pods come from others too, and labels
change. The rules are those of k8s.io/component-helpers/scheduling/corev1. It must not know what follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from vkubelet.api.objects import Pod, Toleration
from vkubelet.config import Taint

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NAME_FIELD = "metadata.name"


def selects_node(pod: Pod, name: str, labels: Mapping[str, str]) -> bool:
    """Whether spec.nodeSelector and the required node affinity take a node of this name and these labels."""
    if any(labels.get(key) != value for key, value in (pod.spec.node_selector or {}).items()):
        return False
    affinity = (pod.spec.affinity or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or selected(required, name, labels)


def selected(selector: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """Whether a node selector, which is any of its terms, takes a node of this name and these labels."""
    return any(_term(term, name, labels) for term in selector.get("nodeSelectorTerms") or ())


def untolerated(
    taints: Iterable[Taint], tolerations: Iterable[Toleration], effects: frozenset[str]
) -> Taint | None:
    """The first taint of one of `effects` that no toleration allows; None if there is none."""
    tolerations = list(tolerations)
    for taint in taints:
        if taint.effect in effects and not any(_tolerates(one, taint) for one in tolerations):
            return taint
    return None


def _term(term: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """All expressions of a term; a term without any selects nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_expression(one, labels) for one in expressions) and all(_field(one, name) for one in fields)


def _expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression.get("key", ""))
    operator, values = expression.get("operator"), list(expression.get("values") or ())
    match operator:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            have, wanted = _integer(value), _integer(values[0] if len(values) == 1 else None)
            if have is None or wanted is None:
                return False
            return have > wanted if operator == "Gt" else have < wanted
    return False


def _field(expression: Mapping[str, Any], name: str) -> bool:
    """Only metadata.name is a field of nodes, and only one value may be given."""
    operator, values = expression.get("operator"), list(expression.get("values") or ())
    if operator not in ("In", "NotIn") or len(values) != 1:
        return False
    found = name if expression.get("key") == _NAME_FIELD else ""
    return (found == values[0]) is (operator == "In")


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    match toleration.operator:
        case "" | "Equal":
            return toleration.value == taint.value
        case "Exists":
            return True
    return False  # Gt and Lt are alpha: the feature TaintTolerationComparisonOperators is off by default


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and _INTEGER.fullmatch(text) else None
