"""Versions of the storage interface, and which a node takes.

It exists as pure functions. It must not know drivers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Version = tuple[int, ...]

_GENERIC = re.compile(r"\s*v?((?:0|[1-9][0-9]*)(?:\.[0-9]+)+)")


class UnsupportedVersionError(ValueError):
    """None of a driver's versions is one that this node speaks; the text says why."""


def highest(versions: Sequence[str]) -> Version:
    """The highest of these that is 1.x: later ones may not be understood. Raises UnsupportedVersionError."""
    found = [version for version in map(_parse, versions) if version is not None and version[0] <= 1]
    if not found:
        raise UnsupportedVersionError(
            f"could not find a highest supported version from versions ({go_list(versions)}) reported"
        )
    best = max(found)
    if best[0] != 1:
        raise UnsupportedVersionError(f"highest supported version reported is {shown(best)}, must be v1.x")
    return best


def shown(version: Version) -> str:
    """As text."""
    return ".".join(map(str, version))


def go_list(items: Sequence[str]) -> str:
    """As Go's `%q` shows a list of strings, and `%v` with quotation marks."""
    return "[" + " ".join(f'"{item}"' for item in items) + "]"


def _parse(text: str) -> Version | None:
    match = _GENERIC.match(text)
    return tuple(map(int, match[1].split("."))) if match is not None else None
