"""Event correlation: the rules one by one, and what must hold for any history."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.correlator import (
    SIMILAR_MAXIMUM,
    SIMILAR_SECONDS,
    SPAM_BURST,
    Correlated,
    Correlator,
    TokenBucket,
)
from vkubelet.api.objects import ObjectReference

NOW = 1_700_000_000.0


def about(name: str = "web") -> ObjectReference:
    return ObjectReference(kind="Pod", namespace="default", name=name, uid=f"uid-{name}")


def sent(correlated: Correlated | None) -> Correlated:
    assert correlated is not None
    return correlated


def test_a_first_event_is_a_new_object_with_all_fields() -> None:
    correlated = sent(Correlator("wasm-1").observe(about(), "Normal", "Pulled", "got it", NOW))
    assert correlated.patch is None
    assert msgspec.to_builtins(correlated.event) == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"web.{int(NOW * 1e9):x}", "namespace": "default"},
        "involvedObject": {
            "kind": "Pod",
            "namespace": "default",
            "name": "web",
            "uid": "uid-web",
            "apiVersion": "v1",
            "resourceVersion": "",
            "fieldPath": "",
        },
        "reason": "Pulled",
        "message": "got it",
        "type": "Normal",
        "source": {"component": "kubelet", "host": "wasm-1"},
        "count": 1,
        "firstTimestamp": "2023-11-14T22:13:20Z",
        "lastTimestamp": "2023-11-14T22:13:20Z",
        "reportingComponent": "kubelet",
        "reportingInstance": "wasm-1",
    }


def test_an_event_about_a_node_goes_to_the_default_namespace() -> None:
    node = ObjectReference(kind="Node", name="wasm-1", uid="u")
    assert (
        sent(Correlator("n").observe(node, "Normal", "Starting", "", NOW)).event.metadata.namespace
        == "default"
    )


def test_a_repeated_event_counts_on_the_same_object() -> None:
    correlator = Correlator("n")
    first = sent(correlator.observe(about(), "Warning", "BackOff", "again", NOW))
    second = sent(correlator.observe(about(), "Warning", "BackOff", "again", NOW + 61))
    assert second.event.metadata.name == first.event.metadata.name
    assert second.event.first_timestamp == first.event.first_timestamp
    assert second.patch is not None
    assert msgspec.json.decode(second.patch) == {
        "count": 2,
        "lastTimestamp": "2023-11-14T22:14:21Z",
        "message": "again",
    }


def test_containers_of_a_pod_are_told_apart() -> None:
    correlator = Correlator("n")
    one, two = about(), about()
    one.field_path, two.field_path = "spec.containers{a}", "spec.containers{b}"
    assert sent(correlator.observe(one, "Normal", "Pulled", "", NOW)).patch is None
    assert sent(correlator.observe(two, "Normal", "Pulled", "", NOW)).patch is None


def test_the_tenth_similar_event_is_combined_and_later_ones_count_on_it() -> None:
    correlator = Correlator("n")
    for number in range(SIMILAR_MAXIMUM - 1):
        assert sent(correlator.observe(about(), "Warning", "Failed", f"try {number}", NOW)).patch is None
    combined = sent(correlator.observe(about(), "Warning", "Failed", "try 9", NOW))
    assert combined.event.message == "(combined from similar events): try 9"
    assert combined.patch is None
    more = sent(correlator.observe(about(), "Warning", "Failed", "try 10", NOW + 1))
    assert more.event.metadata.name == combined.event.metadata.name
    assert more.patch is not None
    assert msgspec.json.decode(more.patch)["message"] == "(combined from similar events): try 10"


@pytest.mark.parametrize(("gap", "combined"), [(SIMILAR_SECONDS, True), (SIMILAR_SECONDS + 1, False)])
def test_similar_events_are_forgotten_after_ten_minutes(gap: float, combined: bool) -> None:
    correlator = Correlator("n")
    for number in range(SIMILAR_MAXIMUM - 1):
        correlator.observe(about(), "Warning", "Failed", f"try {number}", NOW)
    last = sent(correlator.observe(about(), "Warning", "Failed", "last", NOW + gap))
    assert last.event.message.startswith("(combined") is combined


def test_one_object_may_send_its_burst_and_then_one_in_five_minutes() -> None:
    correlator = Correlator("n")
    answers = [correlator.observe(about(), "Normal", "Pulled", "same", NOW) for _ in range(SPAM_BURST + 5)]
    assert [answer is not None for answer in answers] == [True] * SPAM_BURST + [False] * 5
    assert correlator.observe(about(), "Normal", "Pulled", "same", NOW + 299) is None
    after = sent(correlator.observe(about(), "Normal", "Pulled", "same", NOW + 301))
    assert after.event.count == SPAM_BURST + 7, "what was dropped is counted"
    assert correlator.observe(about("other"), "Normal", "Pulled", "same", NOW) is not None
    assert correlator.observe(about(), "Warning", "Pulled", "same", NOW) is not None, "types apart"


def test_a_name_too_long_for_an_object_becomes_another() -> None:
    event = sent(Correlator("n").observe(about("x" * 250), "Normal", "R", "", NOW)).event
    assert len(event.metadata.name) <= 253
    assert not event.metadata.name.startswith("x")


HISTORY = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["Normal", "Warning"]),
        st.sampled_from(["Pulled", "Failed"]),
        st.sampled_from([f"m{number}" for number in range(14)]),
        st.floats(0, 400),
    ),
    max_size=120,
)


@given(HISTORY)
def test_any_history_keeps_names_counts_and_bounds(history: list[tuple[str, str, str, str, float]]) -> None:
    correlator = Correlator("n")
    now = NOW
    counts: dict[str, int] = {}
    created: Counter[str] = Counter()
    passed: Counter[tuple[str, str]] = Counter()
    for name, type_, reason, message, gap in history:
        now += gap
        answer = correlator.observe(about(name), type_, reason, message, now)
        if answer is None:
            continue
        passed[name, type_] += 1
        event = answer.event
        assert event.message.endswith(message)
        assert event.first_timestamp <= event.last_timestamp
        assert (answer.patch is None) == (event.count == 1)
        assert event.count > counts.get(event.metadata.name, 0), "a count only rises"
        counts[event.metadata.name] = event.count
        created[event.metadata.name] += answer.patch is None
    assert all(times <= 1 for times in created.values()), "a name is created once"
    for number in passed.values():
        assert number <= SPAM_BURST + (now - NOW) / 300 + 1


@given(st.lists(st.floats(0, 5), max_size=60), st.floats(0.1, 20), st.integers(1, 10))
def test_reservations_never_exceed_rate_and_burst(gaps: list[float], rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst)
    now = 0.0
    uses = []
    for gap in gaps:
        now += gap
        uses.append(now + bucket.reserve(now))
    for index, use in enumerate(uses):
        among = [other for other in uses[: index + 1] if other >= use - 1]
        assert len(among) <= burst + rate + 1
