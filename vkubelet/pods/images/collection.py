"""Which images go, and when: a kubelet's image garbage collection (pkg/kubelet/images); pure.

It exists so that its rules can be tried without a disk. Other than a kubelet, a node here remembers over
restarts when an image came and when it was used last, so that a maximum age counts from then. It must not
know how an image is removed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from vkubelet.config import Config, ConfigError

_UNITS = ("KiB", "MiB", "GiB", "TiB")


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """Percents of the disk in use, ages in seconds; a `maximum_age` of 0 is for none."""

    high: int
    low: int
    minimum_age: float
    maximum_age: float

    @property
    def is_off(self) -> bool:
        """Whether nothing is ever collected."""
        return self.high == 100 and not self.maximum_age


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """An image that is here. Times are seconds since the epoch, `last_used` 0 where it is not known."""

    digest: str
    size: int
    pulled: float
    last_used: float
    is_used: bool


def policy(config: Config) -> Policy:
    """What the configuration asks for. Raises ConfigError in the words of a kubelet's validation."""
    high, low = config.image_gc_high_threshold_percent, config.image_gc_low_threshold_percent
    if low >= high:
        raise ConfigError(
            f"imageGCLowThresholdPercent {low} must be less than imageGCHighThresholdPercent {high}"
        )
    least, most = config.image_minimum_gc_age, config.image_maximum_gc_age
    if most and most <= least:
        raise ConfigError(f"imageMaximumGCAge {most:g} must be greater than imageMinimumGCAge {least:g}")
    return Policy(high, low, least, most)


def too_old(images: Iterable[Kept], rules: Policy, now: float, began: float) -> list[Kept]:
    """Those that nobody has used for the maximum age. Of which that is not known, `began` is the time."""
    if not rules.maximum_age:
        return []
    return [
        image
        for image in _in_order(images)
        if now - max(image.last_used or began, image.pulled) > rules.maximum_age
    ]


def wanted(capacity: int, available: int, rules: Policy) -> int:
    """Bytes to free on a disk with so many: none below the high threshold, else down to the low one."""
    available = min(available, capacity)
    if _percent_used(capacity, available) < rules.high:
        return 0
    return capacity * (100 - rules.low) // 100 - available


def freeing(images: Iterable[Kept], size: int | None, rules: Policy, now: float) -> list[Kept]:
    """Those to remove for so many bytes, what was used longest ago first; all that may go for None.

    What has come less than the minimum age ago stays: it may be about to be used. What has come in the future
    has not: the clock was set back, by more than that as a rule.
    """
    chosen, freed = [], 0
    for image in _in_order(images):
        if size is not None and freed >= size:
            break
        if not 0 <= now - image.pulled < rules.minimum_age:
            chosen.append(image)
            freed += image.size
    return chosen


def insufficient(capacity: int, available: int, freed: int) -> str:
    """What a kubelet says when that was not enough."""
    return (
        "Insufficient free disk space on the node's image filesystem "
        f"({_percent_used(capacity, min(available, capacity))}% of {format_size(capacity)} used). "
        f"Failed to free sufficient space by deleting unused images (freed {freed} bytes). "
        "Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
    )


def format_size(size: int) -> str:
    """Bytes as a kubelet's message has them: `1.5 GiB`."""
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, len(_UNITS))
    return f"{size / 1024**power:.1f} {_UNITS[power - 1]}"


def _percent_used(capacity: int, available: int) -> int:
    return 100 - available * 100 // capacity


def _in_order(images: Iterable[Kept]) -> list[Kept]:
    unused = (image for image in images if not image.is_used)
    return sorted(unused, key=lambda image: (image.last_used, image.pulled))
