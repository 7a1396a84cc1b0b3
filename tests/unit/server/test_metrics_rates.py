"""Rates of counters, and totals of pods whose containers come and go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vkubelet.server.metrics.rates import LONGEST, SHORTEST, Rates
from vkubelet.server.metrics.totals import PodTotals


def test_one_look_tells_no_rate() -> None:
    assert Rates().rate("c", 100, 50.0) is None


def test_a_rate_is_over_the_time_between_two_looks() -> None:
    rates = Rates()
    rates.rate("c", 1000, 100.0)
    assert rates.rate("c", 21_000, 100.0 + 2 * SHORTEST) == 1000


def test_looks_that_follow_at_once_tell_the_last_rate() -> None:
    rates = Rates()
    rates.rate("c", 0, 0.0)
    assert rates.rate("c", 5, SHORTEST / 2) is None
    assert rates.rate("c", 100, SHORTEST) == 100 / SHORTEST
    assert rates.rate("c", 10_000, SHORTEST * 1.5) == 100 / SHORTEST
    assert rates.rate("c", 20_100, SHORTEST * 2) == 20_000 / SHORTEST


def test_what_was_looked_at_long_ago_is_forgotten() -> None:
    rates = Rates()
    rates.rate("c", 0, 0.0)
    assert rates.rate("c", 10, LONGEST + 1) is None
    assert rates.rate("c", 10 + round(SHORTEST), LONGEST + 1 + SHORTEST) == 1


def test_a_counter_or_a_clock_that_goes_back_begins_anew() -> None:
    rates = Rates()
    rates.rate("c", 100, 0.0)
    assert rates.rate("c", 50, SHORTEST) is None
    assert rates.rate("c", 50 + round(SHORTEST), 2 * SHORTEST) == 1
    assert rates.rate("c", 1000, SHORTEST) is None


def test_ended_counters_are_forgotten() -> None:
    rates = Rates()
    rates.rate("c", 0, 0.0)
    rates.rate("d", 0, 0.0)
    rates.keep(["d"])
    assert rates.rate("c", 100, SHORTEST) is None
    assert rates.rate("d", 100, SHORTEST) == 100 / SHORTEST


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 100)), max_size=20))
def test_a_pods_total_never_shrinks(grown: list[dict[str, int]]) -> None:
    """Each step: which containers run, and how much each has used since the step before."""
    totals, used, last = PodTotals(), dict[str, int](), 0
    for step in grown:
        used = {name: used.get(name, 0) + more for name, more in step.items()}
        total = totals.total("uid", used)
        assert total >= last
        last = total
    assert last == sum(sum(step.values()) for step in grown)


def test_a_pod_that_is_gone_is_forgotten() -> None:
    totals = PodTotals()
    totals.total("uid", {"a": 5})
    totals.keep(["other"])
    assert totals.total("uid", {}) == 0
