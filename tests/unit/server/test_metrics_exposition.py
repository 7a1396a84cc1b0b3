"""Which format a client gets, and that Prometheus' own parsers read what it gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from vkubelet.meters import Family, Histogram, Sample, gauge, label_text
from vkubelet.server.metrics.exposition import Format, accepts_gzip, negotiate, render

# What Prometheus 3 sends.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
    "text/plain;version=0.0.4;q=0.3"
)


@pytest.mark.parametrize(
    ("accept", "form", "escaping"),
    [
        ("", Format.TEXT, "underscores"),
        ("*/*", Format.TEXT, "underscores"),
        ("text/plain", Format.TEXT, "underscores"),
        ("text/plain;version=0.0.4", Format.TEXT, "underscores"),
        ("text/plain;version=1.0.0", Format.TEXT, "underscores"),
        ("application/json", Format.TEXT, "underscores"),
        ("application/openmetrics-text", Format.OPENMETRICS_0, "underscores"),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format.OPENMETRICS_1, "underscores"),
        ("application/openmetrics-text;version=2.0.0", Format.TEXT, "underscores"),
        ("application/openmetrics-text;version=1.0.0;q=0.1,text/plain;q=0.5", Format.TEXT, "underscores"),
        ("application/openmetrics-text;version=1.0.0;q=0", Format.TEXT, "underscores"),
        ("text/plain;escaping=dots", Format.TEXT, "dots"),
        ("text/plain;escaping=\r\nX", Format.TEXT, "underscores"),
        ("text/plain;q=much", Format.TEXT, "underscores"),
        (";;,,=", Format.TEXT, "underscores"),
        (PROMETHEUS, Format.OPENMETRICS_1, "allow-utf-8"),
        (PROTOBUF, Format.TEXT, "underscores"),
    ],
)
def test_negotiation(accept: str, form: Format, escaping: str) -> None:
    assert negotiate(accept) == (form, f"{form.value}; escaping={escaping}")


@pytest.mark.parametrize(
    ("header", "accepted"),
    [("", False), ("gzip", True), ("deflate, gzip;q=0.5", True), ("gzip;q=0", False), ("zstd", False)],
)
def test_compression(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


@given(st.text())
def test_any_header_gets_an_answer(header: str) -> None:
    form, content_type = negotiate(header)
    assert content_type.startswith(form.value)
    assert content_type.isprintable()
    assert accepts_gzip(header) in (True, False)


def families() -> list[Family]:
    histogram = Histogram("took_seconds", "How long.", ("kind",), (0.5, 1))
    histogram.observe(0.7, "a")
    return [
        Family(
            "used_seconds_total",
            "counter",
            'Used "so" far\\here\nand there.',
            [Sample(1.5, label_text(x="y"), 12.25)],
        ),
        gauge("now_bytes", "Now.", [Sample(3, timestamp=1_700_000_000.0), Sample(4, label_text(a='q"\\\n'))]),
        gauge("nothing", "Nothing.", []),
        histogram.family(),
    ]


def test_text() -> None:
    assert render(families(), Format.TEXT).decode() == (
        '# HELP used_seconds_total Used "so" far\\\\here\\nand there.\n'
        "# TYPE used_seconds_total counter\n"
        'used_seconds_total{x="y"} 1.5 12250\n'
        "# HELP now_bytes Now.\n"
        "# TYPE now_bytes gauge\n"
        "now_bytes 3 1700000000000\n"
        'now_bytes{a="q\\"\\\\\\n"} 4\n'
        "# HELP took_seconds How long.\n"
        "# TYPE took_seconds histogram\n"
        'took_seconds_bucket{kind="a",le="0.5"} 0\n'
        'took_seconds_bucket{kind="a",le="1"} 1\n'
        'took_seconds_bucket{kind="a",le="+Inf"} 1\n'
        'took_seconds_sum{kind="a"} 0.7\n'
        'took_seconds_count{kind="a"} 1\n'
    )


@pytest.mark.parametrize(
    ("form", "parse"), [(Format.TEXT, parse_text), (Format.OPENMETRICS_1, parse_openmetrics)]
)
def test_both_formats_say_the_same(form: Format, parse: object) -> None:
    assert callable(parse)
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): (
            sample.value,
            None if sample.timestamp is None else float(sample.timestamp),
        )
        for family in parse(render(families(), form).decode())
        for sample in family.samples
    }
    assert found[("used_seconds_total", (("x", "y"),))] == (1.5, 12.25)
    assert found[("now_bytes", ())] == (3, 1_700_000_000)
    assert found[("now_bytes", (("a", 'q"\\\n'),))] == (4, None)
    assert found[("took_seconds_count", (("kind", "a"),))] == (1, None)
    assert len(found) == 8


def test_a_counter_named_without_the_suffix_has_it_where_it_must() -> None:
    """As client_golang shows `kubelet_evictions`."""
    family = Family("kubelet_evictions", "counter", "Evictions.", [Sample(2)])
    assert "\nkubelet_evictions 2\n" in render([family], Format.TEXT).decode()
    (parsed,) = parse_openmetrics(render([family], Format.OPENMETRICS_1).decode())
    assert (parsed.name, [sample.name for sample in parsed.samples]) == (
        "kubelet_evictions",
        ["kubelet_evictions_total"],
    )


def test_nothing_is_still_a_document() -> None:
    assert render([], Format.TEXT) == b""
    assert render([], Format.OPENMETRICS_1) == b"# EOF\n"
