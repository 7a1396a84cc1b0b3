"""A node whose devices are those of plugins."""

from __future__ import annotations

from pathlib import Path

import pytest
from device_world import World


@pytest.fixture
def world(short_path: Path) -> World:
    return World(short_path)
