"""What guests may write to is removed with their pod, however deep they made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trees import dug

from vkubelet.pods import termination
from vkubelet.pods.volumes.removal import remove


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    with dug(tmp_path / "tree", 2000) as path:
        yield path


@pytest.mark.parametrize("removal", [remove, termination.remove])
def test_a_tree_deeper_than_the_stack(tree: Path, removal: Callable[[Path], None]) -> None:
    removal(tree)
    assert not tree.exists()
    removal(tree)  # what is not there is gone
