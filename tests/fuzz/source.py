"""Where fuzzers have their choices from."""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    """Of atheris' FuzzedDataProvider, what is used here."""

    def ConsumeIntInRange(self, low: int, high: int) -> int: ...  # noqa: N802

    def ConsumeBool(self) -> bool: ...  # noqa: N802

    def ConsumeBytes(self, count: int) -> bytes: ...  # noqa: N802

    def remaining_bytes(self) -> int: ...
