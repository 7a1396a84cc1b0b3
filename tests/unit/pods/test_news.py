"""What of a pod's new version is news, by tables."""

from typing import Any

import msgspec
import pytest

from vkubelet.api.objects import Pod
from vkubelet.pods.news import is_news


def pod(**changes: Any) -> Pod:
    document: dict[str, Any] = {
        "metadata": {"name": "p", "uid": "u", "generation": 1, "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "main", "image": "i"}]},
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]},
    }
    for part, fields in changes.items():
        document[part] |= fields
    return msgspec.convert(document, Pod)


ECHO = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
GATES = {"readinessGates": [{"conditionType": "x"}]}


@pytest.mark.parametrize(
    "changes",
    [{"metadata": {"resourceVersion": "2"}}, {"status": ECHO}, {"status": {"phase": "Unknown"}}],
)
def test_an_echo_is_no_news(changes: dict[str, Any]) -> None:
    assert not is_news(pod(), pod(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"generation": 2}},
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"metadata": {"deletionGracePeriodSeconds": 0}},
        {"metadata": {"labels": {"a": "c"}}},
        {"metadata": {"annotations": {"a": "c"}}},
        {"spec": {"activeDeadlineSeconds": 5}},
        {"spec": {"containers": [{"name": "main", "image": "another"}]}},
        {"status": {"phase": "Failed"}},
        {"status": {"phase": "Succeeded"}},
    ],
)
def test_what_the_plan_reads_is_news(changes: dict[str, Any]) -> None:
    assert is_news(pod(), pod(**changes))


def test_conditions_are_news_where_a_gate_waits_for_them() -> None:
    assert is_news(pod(spec=GATES), pod(spec=GATES, status=ECHO))
    assert not is_news(pod(spec=GATES), pod(spec=GATES))
