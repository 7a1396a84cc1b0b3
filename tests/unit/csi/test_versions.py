"""Which version of the storage interface is spoken with a driver."""

from __future__ import annotations

import pytest

from vkubelet.csi.versions import UnsupportedVersionError, highest, shown


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["1.0.0"], (1, 0, 0)),
        (["1.0.0", "1.12.0", "1.9.0"], (1, 12, 0)),
        (["0.3.0", "v1.2", "2.0.0"], (1, 2)),
        ([" 1.5-alpha", "x", ""], (1, 5)),
    ],
)
def test_the_highest_that_is_understood_is_taken(versions: list[str], expected: tuple[int, ...]) -> None:
    assert highest(versions) == expected


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        (["x"], r'versions \(\["x"\]\) reported'),
        (["2.0.0"], "could not find a highest supported version"),
        (["0.3.0"], "highest supported version reported is 0.3.0, must be v1.x"),
        (["01.0"], "could not find"),
    ],
)
def test_others_are_refused(versions: list[str], message: str) -> None:
    with pytest.raises(UnsupportedVersionError, match=message):
        highest(versions)


def test_a_version_is_shown_as_it_is_written() -> None:
    assert shown((1, 2, 3)) == "1.2.3"
