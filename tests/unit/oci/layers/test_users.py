"""The users that an image's own files tell of, wherever their names lead."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from oci.layers.users import MAXIMUM, User, Users, parse, read_users

USERS = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:\n"


def test_what_is_read(tmp_path: Path) -> None:
    assert read_users(tmp_path) == Users()
    (tmp_path / "real").mkdir()
    (tmp_path / "etc").symlink_to("/real")
    (tmp_path / "real/passwd").write_text(USERS)
    assert read_users(tmp_path).named("app") == User("app", 1000, 1000)
    (tmp_path / "real/group").write_bytes(b"\xff:x:1:app\nwheel:x:10:app\n")
    assert read_users(tmp_path).groups_of(User("app", 1000, 1000)) == (1, 10)


def test_nothing_outside_is_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "passwd").write_text(USERS)
    (root / "etc").symlink_to("..")
    assert read_users(root) == Users()
    (root / "etc").unlink()
    (root / "etc").mkdir()
    (root / "etc/passwd").symlink_to("../../passwd")
    (root / "etc/group").mkdir()
    assert read_users(root) == Users()


def test_no_more_is_read_than_makes_sense(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("#" * MAXIMUM + "\n" + USERS)
    assert read_users(tmp_path) == Users()


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_text_is_users(passwd: str, group: str) -> None:
    for user in parse(passwd, group).users:
        assert user.name
        assert 0 <= user.uid < 2**31
