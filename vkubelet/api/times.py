"""Kubernetes' two spellings of an instant, and the way back.

It exists so that every object this node writes carries the same text for the same second. It must know no
object and no clock: an instant is seconds since the epoch, handed in by the caller.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime


def rfc3339(seconds: float) -> str:
    """`metav1.Time`: whole seconds, cut and not rounded, as the API server would store them."""
    return _rfc3339(int(seconds))


@functools.lru_cache(maxsize=64)
def _rfc3339(seconds: int) -> str:
    """A status has the same few seconds many times, and all statuses of a burst share them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(seconds: float) -> str:
    """`metav1.MicroTime`: always six digits, which is what a lease's renewTime takes."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(text: str) -> float:
    """Seconds since the epoch. Raises ValueError for text that is no RFC 3339 instant with a zone."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return instant.timestamp()
