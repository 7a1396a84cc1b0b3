"""What a guest learns of its files and of itself, and what it may change."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from providers.base import Identity, Preopen

from .conftest import Node, guest

FAULT, INVAL, LOOP, NOENT, NOTDIR, PERM, ROFS, NOTCAPABLE = (
    21,
    28,
    32,
    44,
    54,
    63,
    69,
    76,
)  # of WASI preview 1
TMPFS_MAGIC = 0x01021994


async def ask(node: Node, *questions: str, **fields: object) -> list[str]:
    """The guest's answers."""
    ended, lines = await node.run(guest("system"), *questions, **fields)
    assert ended.code == 0, lines
    return [line.removeprefix("stdout F ") for line in lines]


async def test_modes_owners_and_file_systems(node: Node, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o2750)
    file = volume / "file"
    file.write_text("x")
    file.chmod(0o640)
    (volume / "link").symlink_to("file")
    answers = await ask(
        node, "look", "/v/file", "link", "/v/link", "look", "/v/link", "look", "/v", "look", "/v/",
        preopens=(Preopen(volume, "/v"),),
    )  # fmt: skip
    kind = answers[0].split()[3]
    owner = f"{os.getuid()} {os.getgid()} {kind}"
    assert answers == [
        f"100640 {owner}", f"120777 {owner}", f"100640 {owner}", f"042750 {owner}", f"042750 {owner}",
    ]  # fmt: skip


async def test_memory_is_told_by_its_file_system(node: Node) -> None:
    (answer,) = await ask(node, "look", "/v", preopens=(Preopen(Path("/dev/shm"), "/v"),))
    assert int(answer.split()[3], 16) == TMPFS_MAGIC


async def test_how_much_room_there_is(node: Node, tmp_path: Path) -> None:
    shown, missing = await ask(
        node, "space", "/v", "space", "/v/none", preopens=(Preopen(Path("/dev/shm"), "/v"),)
    )
    found = os.statvfs("/dev/shm")
    assert int(shown.split()[0]) == found.f_blocks * found.f_frsize
    assert missing == f"failed {NOENT}"


async def test_the_directory_with_the_longest_name_is_meant(node: Node, tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    for directory, mode in ((outer, 0o600), (inner, 0o400)):
        directory.mkdir()
        (directory / "file").write_text("")
        (directory / "file").chmod(mode)
    (outer / "inner-more").write_text("")
    preopens = (Preopen(outer, "/v"), Preopen(inner, "/v/inner"))
    answers = await ask(
        node, "look", "/v/file", "look", "/v/inner/file", "look", "/v/inner-more", preopens=preopens
    )
    assert [answer.split()[0] for answer in answers] == ["100600", "100400", "100644"]


async def test_no_path_leads_out(node: Node, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "secret").write_text("")
    (volume / "absolute").symlink_to(tmp_path / "secret")
    (volume / "up").symlink_to("../secret")
    (volume / "loop").symlink_to("loop")
    (volume / "file").write_text("")
    questions = {
        "/v/absolute": NOTCAPABLE,
        "/v/up": NOTCAPABLE,
        "/v/../secret": NOTCAPABLE,
        "/v/loop": LOOP,
        "/v/missing": NOENT,
        "/v/file/below": NOTDIR,
        "v/file": INVAL,
        "": INVAL,
    }
    asked = [part for path in questions for part in ("look", path)]
    answers = await ask(node, *asked, preopens=(Preopen(volume, "/v"),))
    assert answers == [f"failed {code}" for code in questions.values()]


async def test_modes_can_be_set_where_it_may_write(node: Node, tmp_path: Path) -> None:
    volume, kept = tmp_path / "volume", tmp_path / "kept"
    for directory in (volume, kept):
        directory.mkdir()
        (directory / "file").write_text("")
        (directory / "file").chmod(0o644)
    answers = await ask(
        node, "mode", "0600", "/v/file", "mode", "4755", "/v/file", "mode", "2755", "/v/file",
        "mode", "1777", "/v", "mode", "0777", "/r/file", "mode", "0777", "/v/none",
        preopens=(Preopen(volume, "/v"), Preopen(kept, "/r", read_only=True)),
    )  # fmt: skip
    assert answers == ["mode 0", f"mode {PERM}", f"mode {PERM}", "mode 0", f"mode {ROFS}", f"mode {NOENT}"]
    assert stat.S_IMODE((volume / "file").stat().st_mode) == 0o600
    assert stat.S_IMODE(volume.stat().st_mode) == 0o1777
    assert stat.S_IMODE((kept / "file").stat().st_mode) == 0o644


async def test_a_read_only_root_keeps_its_modes(node: Node) -> None:
    assert await ask(node, "mode", "0700", "/", read_only_root=True) == [f"mode {ROFS}"]


async def test_who_it_is(node: Node) -> None:
    own = [os.geteuid(), os.getegid(), *os.getgroups()]
    whole = f"0, {len(own)}: {' '.join(map(str, own))}"
    assert await ask(node, "who", "16", "who", "1") == [whole, f"0, {len(own)}: {own[0]}"]


async def test_who_it_was_made(node: Node, tmp_path: Path) -> None:
    if not node.provider.capabilities().identities:
        assert os.geteuid() != 0
        return
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").write_text("")
    other = Identity(12345, 23456, (34567, 45678))
    answers = await ask(
        node, "who", "16", "mode", "0777", "/v/file", identity=other, preopens=(Preopen(volume, "/v"),)
    )
    assert answers == ["0, 4: 12345 23456 34567 45678", f"mode {PERM}"]


async def test_places_beyond_its_memory(node: Node, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (answer,) = await ask(node, "beyond", "/v", preopens=(Preopen(tmp_path / "volume", "/v"),))
    assert answer.split() == [str(FAULT)] * 10
