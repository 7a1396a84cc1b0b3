"""What unit and integration tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes is the machine's business.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory of the test's own for sockets: their paths have 107 bytes at most, `tmp_path` more."""
    with tempfile.TemporaryDirectory(prefix="vkubelet-") as made:
        yield Path(made)
