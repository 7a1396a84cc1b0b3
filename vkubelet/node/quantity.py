"""Amounts as the API server writes them, so that what was sent compares equal to what comes back.

It exists because a quantity has many spellings (1000, 1k, 1000000m) and the server answers with the
canonical one. It must not know what is counted.
"""

from __future__ import annotations

_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = ("m", "", "k", "M", "G", "T", "P", "E")


def binary(amount: int) -> str:
    """Bytes, cut to whole KiB: the spelling of memory and storage."""
    return _shortest(max(amount, 0) // 1024, 1024, _BINARY[1:]) if amount >= 1024 else "0"


def decimal(thousandths: int) -> str:
    """Thousandths of one: the spelling of cores and pods."""
    return _shortest(thousandths, 1000, _DECIMAL) if thousandths > 0 else "0"


def _shortest(amount: int, step: int, suffixes: tuple[str, ...]) -> str:
    index = 0
    while amount % step == 0 and index + 1 < len(suffixes):
        amount //= step
        index += 1
    return f"{amount}{suffixes[index]}"
