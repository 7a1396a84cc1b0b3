"""Parts of directories in which guests make links: what is meant is found there, and nothing else ever is."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.base import ExitReason, FileMount, InvalidSpecError, Preopen

from .conftest import Node, guest


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A directory with parts, links among them and links out of it; `tmp_path` holds a secret."""
    made = tmp_path / "volume"
    (made / "part" / "inner").mkdir(parents=True)
    (made / "part" / "inner" / "file").write_text("of the part")
    (tmp_path / "secret").write_text("of somebody else")
    (made / "link").symlink_to("part/inner")
    (made / "out").symlink_to("..")
    (made / "absolute").symlink_to(tmp_path)
    (made / "part" / "up").symlink_to("../../secret")
    return made


@pytest.mark.parametrize("beneath", ["part/inner", "link", "part/../link"])
async def test_a_part_of_a_directory_is_all_that_a_guest_sees(node: Node, volume: Path, beneath: str) -> None:
    preopens = (Preopen(volume, "/part", beneath=beneath),)
    ended, lines = await node.run(
        guest("files"), "read", "/part/file", "write", "/part/new", "x", preopens=preopens
    )
    assert (ended.code, lines) == (0, ["stdout F /part/file: of the part"])
    assert (volume / "part" / "inner" / "new").read_text() == "x"
    preopens = (Preopen(volume, "/part", read_only=True, beneath=beneath),)
    ended, lines = await node.run(guest("files"), "write", "/part/other", "x", preopens=preopens)
    assert ended.code == 1
    assert not (volume / "part" / "inner" / "other").exists()


@pytest.mark.parametrize(
    "beneath", ["out", "absolute", "..", "part/../..", "/", "missing", "part/inner/file"]
)
async def test_what_is_elsewhere_or_no_directory_cannot_be_seen(
    node: Node, volume: Path, beneath: str
) -> None:
    preopens = (Preopen(volume, "/part", beneath=beneath),)
    ended, _ = await node.run(guest("files"), "list", "/part", preopens=preopens)
    assert ended.reason is ExitReason.CANNOT_RUN
    assert ended.message.startswith(f"opening {volume}/{beneath}"[:40])


async def test_a_file_in_a_directory_is_found_there(node: Node, volume: Path) -> None:
    mounts = (FileMount(volume, "/etc/file", beneath="link/file"),)
    ended, lines = await node.run(guest("files"), "read", "/etc/file", files=mounts)
    assert (ended.code, lines) == (0, ["stdout F /etc/file: of the part"])


@pytest.mark.parametrize("beneath", ["out/secret", "part/up", "../secret", "absolute/secret"])
async def test_a_file_elsewhere_is_not(node: Node, volume: Path, beneath: str) -> None:
    mounts = (FileMount(volume, "/etc/file", beneath=beneath),)
    with pytest.raises(InvalidSpecError, match=r"files\[0\]"):
        await node.start(guest("files"), files=mounts)
