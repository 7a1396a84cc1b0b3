"""Counters and histograms, read back from what Prometheus' own client makes of them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from vkubelet import telemetry
from vkubelet.meters import Counter, Deadline, Histogram, gauge, label_text
from vkubelet.server.metrics.exposition import Format, render


def samples(meter: Counter | Histogram) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = render([meter.family()], Format.TEXT).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_counter_without_labels_is_shown_as_nothing_yet() -> None:
    counter = Counter("things_total", "Things.")
    assert samples(counter) == {("things_total", ()): 0}
    counter.inc()
    counter.inc(by=2)
    assert samples(counter) == {("things_total", ()): 3}


def test_a_counter_with_labels_has_what_was_counted() -> None:
    counter = Counter("things_total", "Things.", ("zone", "kind"))
    assert samples(counter) == {}
    counter.inc("z", "k")
    counter.inc("z", "k")
    counter.inc("y", "k")
    assert samples(counter) == {
        ("things_total", (("kind", "k"), ("zone", "z"))): 2,
        ("things_total", (("kind", "k"), ("zone", "y"))): 1,
    }


def test_a_histogram_counts_up_to_its_bounds_each_included() -> None:
    histogram = Histogram("took_seconds", "Time.", ("kind",), (1, 2.5))
    for value in (0.5, 1.0, 2.0, 2.5, 3.0):
        histogram.observe(value, "k")
    assert samples(histogram) == {
        ("took_seconds_bucket", (("kind", "k"), ("le", "1"))): 2,
        ("took_seconds_bucket", (("kind", "k"), ("le", "2.5"))): 4,
        ("took_seconds_bucket", (("kind", "k"), ("le", "+Inf"))): 5,
        ("took_seconds_sum", (("kind", "k"),)): 9.0,
        ("took_seconds_count", (("kind", "k"),)): 5,
    }


def test_a_histogram_without_labels_is_shown_as_nothing_yet() -> None:
    assert samples(Histogram("took_seconds", "Time.", buckets=(1,)))[("took_seconds_count", ())] == 0


def test_a_deadline_is_shown_once_it_is_known() -> None:
    deadline = Deadline("left_seconds", "Left.")
    assert deadline.family().samples == []
    deadline.set(time.time() + 1000)
    assert 0 < deadline.family().samples[0].value <= 1000
    deadline.set(time.time() - 1000)
    assert deadline.family().samples[0].value <= -1000


@given(st.lists(st.floats(min_value=0, max_value=1e6)))
def test_a_histogram_loses_nothing(values: list[float]) -> None:
    histogram = Histogram("took_seconds", "Time.")
    for value in values:
        histogram.observe(value)
    found = samples(histogram)
    assert found[("took_seconds_count", ())] == len(values)
    assert found[("took_seconds_sum", ())] == pytest.approx(sum(values))
    buckets = [value for (name, _), value in found.items() if name.endswith("_bucket")]
    assert buckets == sorted(buckets)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(st.characters(exclude_categories=["Cs"]))))
def test_labels_survive(labels: dict[str, str]) -> None:
    text = render(
        [gauge("one", "One.", [Counter("x", "").family().samples[0]._replace(labels=label_text(**labels))])],
        Format.TEXT,
    )
    (family,) = text_string_to_metric_families(text.decode())
    assert family.samples[0].labels == labels


@pytest.mark.parametrize(
    ("size", "label"),
    [
        (1, "0-10MB"),
        (10 * 2**20, "0-10MB"),
        (10 * 2**20 + 1, "10MB-100MB"),
        (2**30 + 1, "1GB-5GB"),
        (100 * 2**30 + 1, "GT100GB"),
    ],
)
def test_sizes_of_images(size: int, label: str) -> None:
    assert telemetry.image_size_bucket(size) == label


def test_every_family_of_the_agent_has_a_name_of_its_own() -> None:
    names = [family.name for family in telemetry.families()]
    assert len(names) == len(set(names)) > 10
