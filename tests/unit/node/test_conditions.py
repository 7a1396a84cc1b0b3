"""Conditions: words, and transitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.node.conditions import (
    NodeCondition,
    NotReady,
    conditions,
    transitions,
)

NOW = 1_700_000_000.0
STAMP = "2023-11-14T22:13:20Z"


def test_a_new_node_in_good_health() -> None:
    found = conditions((), (), None, NOW)
    assert [(entry.type, entry.status, entry.reason, entry.message) for entry in found] == [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ]
    assert {entry.last_transition_time for entry in found} == {STAMP}
    assert transitions((), found) == [
        "NodeHasSufficientMemory",
        "NodeHasNoDiskPressure",
        "NodeHasSufficientPID",
    ]


@pytest.mark.parametrize(
    ("kind", "reason", "message", "event"),
    [
        (
            "MemoryPressure",
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
            "NodeHasInsufficientMemory",
        ),
        ("DiskPressure", "KubeletHasDiskPressure", "kubelet has disk pressure", "NodeHasDiskPressure"),
        (
            "PIDPressure",
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
            "NodeHasInsufficientPID",
        ),
    ],
)
def test_words_of_pressure(kind: str, reason: str, message: str, event: str) -> None:
    before = conditions((), (), None, NOW)
    after = conditions(before, [kind], None, NOW + 10)
    found = next(entry for entry in after if entry.type == kind)
    assert (found.status, found.reason, found.message) == ("True", reason, message)
    assert found.last_transition_time == "2023-11-14T22:13:30Z"
    assert transitions(before, after) == [event]


def test_not_ready_says_why() -> None:
    before = conditions((), (), None, NOW)
    after = conditions(before, (), NotReady("launcher is down"), NOW + 10)
    assert (after[-1].type, after[-1].status) == ("Ready", "False")
    assert (after[-1].reason, after[-1].message) == ("KubeletNotReady", "launcher is down")
    assert transitions(before, after) == ["NodeNotReady"]
    assert transitions(after, before) == ["NodeReady"]


KINDS = ["MemoryPressure", "DiskPressure", "PIDPressure"]


@given(
    st.lists(
        st.tuples(st.frozensets(st.sampled_from(KINDS)), st.booleans(), st.integers(1, 1000)), max_size=20
    )
)
def test_transition_times_change_exactly_with_the_status(
    history: list[tuple[frozenset[str], bool, int]],
) -> None:
    before: list[NodeCondition] = []
    now = NOW
    for pressed, ready, gap in history:
        now += gap
        after = conditions(before, pressed, None if ready else NotReady("why"), now)
        assert [entry.type for entry in after] == [*KINDS, "Ready"], "Ready is the last"
        known = {entry.type: entry for entry in before}
        for entry in after:
            former = known.get(entry.type)
            moved = former is None or former.status != entry.status
            if former is None or moved:
                assert entry.last_transition_time == entry.last_heartbeat_time
            else:
                assert entry.last_transition_time == former.last_transition_time
        before = after
