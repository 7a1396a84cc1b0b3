"""What guests may write to is removed with their pod, however deep they made it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vkubelet.pods import termination
from vkubelet.pods.volumes.removal import remove


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "tree"
    path.mkdir()
    directory = os.open(path, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("deeper", dir_fd=directory)
        below = os.open("deeper", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    yield path
    subprocess.run(["rm", "-rf", path], check=True)  # pytest could not


@pytest.mark.parametrize("removal", [remove, termination.remove])
def test_a_tree_deeper_than_the_stack(tree: Path, removal: Callable[[Path], None]) -> None:
    removal(tree)
    assert not tree.exists()
    removal(tree)  # what is not there is gone
