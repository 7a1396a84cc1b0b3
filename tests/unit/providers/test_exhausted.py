"""What a machine lacks, told from all other errors."""

from __future__ import annotations

import errno

import pytest

from providers.exhausted import lacking


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device", "/a"), "No space left on device: /a"),
        (OSError(errno.EMFILE, "raise the sysctl x", "/a"), "raise the sysctl x: /a"),
        (OSError(errno.EMFILE, ""), "Too many open files"),
        (RuntimeError("can't start new thread"), "Resource temporarily unavailable: can't start new thread"),
        (OSError(errno.ENOENT, "No such file or directory", "/a"), None),
        (OSError("no number"), None),
        (RuntimeError("of ours"), None),
    ],
)
def test_what_is_lacking(error: Exception, text: str | None) -> None:
    assert lacking(error) == text
