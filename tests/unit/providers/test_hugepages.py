"""The library in large pages: the same bytes in the same places, with the same rights."""

from __future__ import annotations

from pathlib import Path

from providers.wasmtime import engine

from .conftest import Node


def test_what_is_in_large_pages_is_the_library(node: Node) -> None:
    """On a host that has none to give, all of it is the file's."""
    library = str(engine.library())
    process = Path(f"/proc/{node.provider._launcher.connection.launcher_pid}")
    file = Path(library).read_bytes()
    compared = 0
    with (process / "mem").open("rb") as memory:
        before = None
        for line in (process / "maps").read_text().splitlines():
            range_, rights, offset, _, inode, *name = line.split(maxsplit=5)
            start, end = (int(number, 16) for number in range_.split("-"))
            if name == [library]:
                before = (start, int(offset, 16), rights)
                assert rights in {"r--p", "r-xp", "rw-p"}
            elif before is not None and inode == "0" and "w" not in rights and not name:
                first, place, of_file = before
                assert rights == of_file
                memory.seek(start)
                place += start - first
                assert memory.read(end - start) == file[place : place + end - start]
                compared += end - start
            else:
                before = None
    assert compared % (2 << 20) == 0
