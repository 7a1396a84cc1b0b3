"""What the tests of layers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from unpacking import Target


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    made = Target(tmp_path)
    yield made
    made.assert_untouched()
