"""Kubernetes' two spellings of an instant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.times import parse, rfc3339, rfc3339_micro


@given(st.integers(0, 4_000_000_000), st.floats(0, 0.999))
def test_what_is_written_is_read_again(seconds: int, fraction: float) -> None:
    assert parse(rfc3339(seconds + fraction)) == seconds
    assert parse(rfc3339_micro(seconds + fraction)) == pytest.approx(seconds + fraction, abs=1e-5)


def test_the_spellings_are_those_of_the_api() -> None:
    assert rfc3339(1_767_225_600.9) == "2026-01-01T00:00:00Z"
    assert rfc3339_micro(1_767_225_600.5) == "2026-01-01T00:00:00.500000Z"
    assert parse("2026-01-01T01:00:00+01:00") == 1_767_225_600


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01T00:00:00"])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time zone|isoformat"):
        parse(text)
