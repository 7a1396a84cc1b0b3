"""The list of specs, Ginkgo's report, and how the one is held against the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.verdicts import (
    Expectation,
    Listed,
    ListError,
    Result,
    complaints,
    focus,
    read_list,
    read_report,
    write_list,
)

LIST = Path(__file__).parents[2] / "conformance" / "specs.txt"
ALL = 388
"""How many [NodeConformance] specs the suite of this version has."""

words = st.text(st.characters(codec="ascii", exclude_characters="|\n\r", min_codepoint=33), min_size=1)
texts = st.lists(words, min_size=1, max_size=4).map(" ".join).filter(lambda text: not text.startswith("#"))
specs = st.one_of(
    st.builds(Listed, texts, st.just(Expectation.PASSES), st.just(""), st.booleans()),
    st.builds(Listed, texts, st.sampled_from([Expectation.CANNOT, Expectation.NOT_YET]), texts),
)


@given(st.lists(specs, unique_by=lambda spec: spec.name))
def test_what_is_written_is_read(listed):
    text = write_list("# about\n", listed)
    assert text.startswith("# about\n")
    assert read_list(text) == {spec.name: spec for spec in listed}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("passes", "line 1: no '|'"),
        ("\n# x\nfails | a", "line 3: 'fails' is none of passes, cannot-on-wasm, not-yet"),
        ("passes: why | a", "a spec that passes has no reason"),
        ("not-yet | a", "every other one has"),
        ("not-yet quick: why | a", "only passing specs are quick"),
        ("passes slow | a", "only passing specs are quick"),
        ("passes | a\npasses | a", "line 2: the spec is in the list already: a"),
    ],
)
def test_a_list_that_is_none_is_refused(text, wrong):
    with pytest.raises(ListError, match=re.escape(wrong)):
        read_list(text)


def test_the_list_is_whole():
    listed = read_list(LIST.read_text())
    assert len(listed) == ALL
    assert all("[NodeConformance]" in name for name in listed)
    assert any(spec.is_quick for spec in listed.values())


def test_a_report_without_what_did_not_run():
    failed = {"Message": "Expected\n  one"}
    suites = [
        {
            "SpecReports": [
                {"LeafNodeType": "It", "LeafNodeText": "a", "ContainerHierarchyTexts": ["[x]", "y"],
                 "State": "passed", "RunTime": 2_500_000_000},
                {"LeafNodeType": "It", "LeafNodeText": "b", "ContainerHierarchyTexts": None,
                 "State": "failed", "RunTime": 1, "Failure": failed},
                {"LeafNodeType": "It", "LeafNodeText": "filtered", "State": "skipped"},
                {"LeafNodeType": "It", "LeafNodeText": "c", "State": "skipped", "Failure": {"Message": "no"}},
                {"LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "State": "passed"},
            ]
        },
        {"SpecReports": None},
    ]  # fmt: skip
    assert read_report(suites) == [
        Result("[x] y a", "passed", 2.5),
        Result("b", "failed", 1e-9, "Expected\n  one"),
        Result("c", "skipped", 0, "no"),
    ]


def test_a_run_is_held_against_the_list():
    expected = {
        spec.name: spec
        for spec in (
            Listed("good", Expectation.PASSES),
            Listed("broken", Expectation.PASSES),
            Listed("silent", Expectation.PASSES),
            Listed("cannot", Expectation.CANNOT, "why"),
            Listed("surprise", Expectation.NOT_YET, "why"),
        )
    }
    results = [
        Result("good", "passed", 1),
        Result("broken", "timedout", 1, "A spec\n timeout"),
        Result("cannot", "failed", 1),
        Result("surprise", "passed", 1),
        Result("new", "failed", 1),
    ]
    assert complaints(expected, results, [*expected, "new"]) == [
        "timedout, but listed as passing: broken\n    A spec timeout",
        "not in the list (failed): new",
        "did not run: silent",
        "passes, but listed as not-yet: surprise",
    ]
    assert complaints(expected, results[:1], ["good"]) == []


def test_a_focus_matches_its_specs_alone():
    pattern = re.compile(focus(["a (b) [c] *d*", "e.f"]))
    assert pattern.search("suite a (b) [c] *d*")
    assert pattern.search("suite e.f")
    assert not pattern.search("suite exf")
    assert not pattern.search("suite a (b) [c] *d* more")
