"""Trees of directories that are deeper than any path may be long."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


def dig(top: Path, depth: int, name: str = "d", beside: str | None = None) -> None:
    """Make directories below one another, each with a file, and with a directory beside the way down."""
    directory = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
        for made in (name, beside):
            if made is not None:
                os.mkdir(made, dir_fd=directory)
        below = os.open(name, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)


@contextlib.contextmanager
def dug(top: Path, depth: int, beside: str | None = None) -> Iterator[Path]:
    """A tree that is there meanwhile; pytest could not remove it."""
    top.mkdir()
    dig(top, depth, beside=beside)
    yield top
    subprocess.run(["rm", "-rf", top], check=True)
