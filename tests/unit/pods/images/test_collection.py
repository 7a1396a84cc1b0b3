"""Which images go: the kubelet's rules, as tables and for any images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.config import Config, ConfigError
from vkubelet.pods.images.collection import (
    Kept,
    Policy,
    format_size,
    freeing,
    insufficient,
    policy,
    too_old,
    wanted,
)

RULES = Policy(high=85, low=80, minimum_age=120, maximum_age=0)
NOW = 10_000.0


def kept(digest: str, *, size: int = 10, pulled: float = 0.0, used: float = 0.0, now: bool = False) -> Kept:
    return Kept(digest, size, pulled, used, now)


def test_the_defaults_are_the_kubelets() -> None:
    assert policy(Config()) == RULES
    assert not RULES.is_off
    assert policy(Config(image_gc_high_threshold_percent=100)).is_off
    assert not policy(Config(image_gc_high_threshold_percent=100, image_maximum_gc_age=121)).is_off


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"image_gc_low_threshold_percent": 85},
            "imageGCLowThresholdPercent 85 must be less than imageGCHighThresholdPercent 85",
        ),
        ({"image_maximum_gc_age": 120.0}, "imageMaximumGCAge 120 must be greater than imageMinimumGCAge 120"),
    ],
)
def test_what_a_kubelet_refuses(options: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        policy(Config(**options))


@pytest.mark.parametrize(
    ("capacity", "available", "expected"),
    [
        (1000, 160, 0),
        (1000, 159, 41),  # 15 % are left, rounded as Go does
        (1000, 150, 50),
        (1000, 0, 200),
        (1000, 1000, 0),
        (1000, 5000, 0),
        (7, 1, 0),  # 86 % in use, and one of seven bytes is 20 % already
    ],
)
def test_how_much_is_freed(capacity: int, available: int, expected: int) -> None:
    assert wanted(capacity, available, RULES) == expected


def test_what_was_used_longest_ago_goes_first() -> None:
    images = [
        kept("recent", used=9_000),
        kept("running", used=1, now=True),
        kept("old", used=100),
        kept("never later", pulled=20),
        kept("never", pulled=10),
        kept("fresh", pulled=NOW - 119),
    ]
    order = [image.digest for image in freeing(images, None, RULES, NOW)]
    assert order == ["never", "never later", "old", "recent"]
    assert [image.digest for image in freeing(images, 11, RULES, NOW)] == ["never", "never later"]
    assert freeing(images, 0, RULES, NOW) == []


def test_what_came_in_the_future_is_not_young() -> None:
    """The clock was set back: for an hour nothing could be freed that came within it."""
    images = [kept("from the future", pulled=NOW + 3600)]
    assert freeing(images, None, RULES, NOW) == images


def test_a_maximum_age_counts_from_the_last_use() -> None:
    rules = Policy(85, 80, 120, maximum_age=1000)
    images = [
        kept("old", used=NOW - 1001),
        kept("running", used=1, now=True),
        kept("in time", used=NOW - 1000),
        kept("came just now", pulled=NOW - 10),
        kept("not known"),
    ]
    assert [image.digest for image in too_old(images, rules, NOW, began=NOW - 500)] == ["old"]
    assert [image.digest for image in too_old(images, rules, NOW, began=0)] == ["not known", "old"]
    assert too_old(images, RULES, NOW, began=0) == []


def test_what_is_said_when_it_is_not_enough() -> None:
    assert insufficient(100 << 30, 10 << 30, 5) == (
        "Insufficient free disk space on the node's image filesystem (90% of 100.0 GiB used). "
        "Failed to free sufficient space by deleting unused images (freed 5 bytes). "
        "Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (3 << 40, "3.0 TiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert format_size(size) == text


IMAGES = st.lists(
    st.builds(
        Kept,
        st.uuids().map(str),
        st.integers(0, 100),
        st.floats(0, NOW),
        st.floats(0, NOW),
        st.booleans(),
    ),
    unique_by=lambda image: image.digest,
)


@given(IMAGES, st.one_of(st.none(), st.integers(0, 500)), st.floats(0, NOW))
def test_no_image_goes_without_need(images: list[Kept], size: int | None, age: float) -> None:
    rules = Policy(85, 80, age, 0)
    chosen = freeing(images, size, rules, NOW)
    assert not any(image.is_used or NOW - image.pulled < age for image in chosen)
    assert [(one.last_used, one.pulled) for one in chosen] == sorted(
        (one.last_used, one.pulled) for one in chosen
    )
    able = sum(image.size for image in freeing(images, None, rules, NOW))
    freed = sum(image.size for image in chosen)
    if size is not None:
        assert freed >= min(size, able)
        assert not chosen or freed - chosen[-1].size < size


@given(st.integers(1, 1 << 50), st.integers(0, 1 << 50), st.integers(1, 100), st.integers(0, 99))
def test_afterwards_the_disk_is_below_the_threshold(capacity: int, left: int, high: int, low: int) -> None:
    rules = Policy(high, min(low, high - 1), 0, 0)
    size = wanted(capacity, left, rules)
    if size > 0:
        assert (min(left, capacity) + size) * 100 >= capacity * (100 - rules.low) - 100
