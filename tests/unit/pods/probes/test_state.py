"""Thresholds and due times of probes, against tables and a naive model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.containers import Probe
from vkubelet.pods.probes.state import ProbeKind, State, begin, first_tick, next_tick, resume, step

S, R, L = ProbeKind.STARTUP, ProbeKind.READINESS, ProbeKind.LIVENESS


def verdicts(kind: ProbeKind, results: str, success: int = 1, failure: int = 3) -> str:
    """The verdict before and after each of `results`: `+`, `-`, or `?` while there is none."""
    probe = Probe(success_threshold=success, failure_threshold=failure)
    state = begin(kind)
    shown = [state.verdict]
    for result in results:
        state = step(kind, probe, state, success=result == "+")
        shown.append(state.verdict)
    return "".join("?" if verdict is None else "+" if verdict else "-" for verdict in shown)


@pytest.mark.parametrize(
    ("kind", "results", "success", "failure", "expected"),
    [
        (R, "", 1, 3, "-"),
        (R, "+", 1, 3, "-+"),
        (R, "+---+", 1, 3, "-+++-+"),
        (R, "+--+--+", 1, 3, "-+++++++"),
        (R, "++-+++", 3, 1, "------+"),
        (L, "", 1, 3, "+"),
        (L, "--+---", 1, 3, "++++++-"),
        (L, "---+++", 1, 3, "+++----"),
        (L, "-", 1, 1, "+-"),
        (S, "", 1, 3, "?"),
        (S, "--+---", 1, 3, "???++++"),
        (S, "---+", 1, 3, "???--"),
    ],
)
def test_verdicts(kind: ProbeKind, results: str, success: int, failure: int, expected: str) -> None:
    assert verdicts(kind, results, success, failure) == expected


def naive(kind: ProbeKind, results: list[bool], success: int, failure: int) -> bool | None:
    """The verdict by looking at all results from the beginning, each time anew."""
    verdict = {S: None, R: False, L: True}[kind]
    for count in range(1, len(results) + 1):
        seen = results[:count]
        for value, threshold in ((True, success), (False, failure)):
            if count >= threshold and seen[-threshold:] == [value] * threshold:
                verdict = value
                if kind is S or (kind is L and not value):
                    return verdict
    return verdict


@given(
    kind=st.sampled_from(ProbeKind),
    results=st.lists(st.booleans(), max_size=30),
    success=st.integers(1, 4),
    failure=st.integers(1, 4),
)
def test_the_thresholds_are_those_of_the_naive_model(
    kind: ProbeKind, results: list[bool], success: int, failure: int
) -> None:
    probe = Probe(success_threshold=success, failure_threshold=failure)
    state = begin(kind)
    for result in results:
        held = state.held
        state = step(kind, probe, state, success=result)
        assert state.held or not held
    assert state.verdict == naive(kind, results, success, failure)
    assert state.held == (state.verdict in {S: (True, False), R: (), L: (False,)}[kind])


@pytest.mark.parametrize(
    ("kind", "started", "expected"),
    [
        (S, True, State(True, held=True)),
        (S, False, State(None)),
        (R, True, State(None)),
        (L, False, State(True)),
    ],
)
def test_what_an_earlier_agent_started_goes_on(kind: ProbeKind, started: bool, expected: State) -> None:
    assert resume(kind, started=started) == expected


def test_an_adopted_containers_readiness_is_told_with_its_first_verdict_either_way() -> None:
    probe = Probe(failure_threshold=2)
    once = step(R, probe, resume(R, started=True), success=False)
    assert once.verdict is None
    assert step(R, probe, once, success=False).verdict is False


@pytest.mark.parametrize(
    ("delay", "period", "expected"),
    [(0, 10, 110.0), (5, 10, 110.0), (10, 10, 110.0), (11, 10, 120.0), (30, 7, 135.0), (1, 1, 101.0)],
)
def test_the_first_tick_is_a_period_after_the_start_and_after_the_initial_delay(
    delay: int, period: int, expected: float
) -> None:
    assert first_tick(Probe(initial_delay_seconds=delay, period_seconds=period), 100.0, 100.0) == expected


@given(
    delay=st.integers(0, 100),
    period=st.integers(1, 60),
    ran=st.floats(0, 1000),
)
def test_no_container_is_probed_before_its_initial_delay_and_none_later_than_a_period_after_it(
    delay: int, period: int, ran: float
) -> None:
    began, base = 1000.0, 1000.0 + ran
    tick = first_tick(Probe(initial_delay_seconds=delay, period_seconds=period), began, base)
    earliest = max(base + period, began + delay)
    assert earliest - 1e-6 <= tick <= earliest + period + 1e-6


@pytest.mark.parametrize(
    ("last", "now", "expected"),
    [
        (10.0, 10.5, 20.0),
        (10.0, 20.0, 20.0),
        (10.0, 21.0, 20.0),  # a tick went by meanwhile: it is made up for
        (10.0, 47.0, 40.0),  # of several, the last
        (40.0, 48.0, 50.0),  # and the grid is kept
    ],
)
def test_ticks_that_went_by_are_made_up_for_once(last: float, now: float, expected: float) -> None:
    assert next_tick(Probe(period_seconds=10), 0.0, last, now) == expected
