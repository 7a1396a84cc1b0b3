"""fsGroup: the whole tree, no link out of it, and only what is asked for."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from vkubelet.api.objects import Pod
from vkubelet.pods.volumes import ownership

GROUP = 4321 if os.geteuid() == 0 else os.getgid()
"""Only root can give files to a group that it is not in."""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_tree_is_given_with_its_permissions_and_no_link_is_followed(tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.write_text("")
    outside.chmod(0o600)
    (volume / "a" / "b").mkdir(parents=True)
    (volume / "a" / "b" / "file").write_text("")
    (volume / "a" / "b" / "file").chmod(0o400)
    (volume / "link").symlink_to(outside)
    (volume / "up").symlink_to("..")
    volume.chmod(0o700)
    ownership.give(volume, GROUP, read_only=False)
    for path in (volume, volume / "a", volume / "a" / "b", volume / "a" / "b" / "file", volume / "link"):
        assert path.lstat().st_gid == GROUP
    assert mode(volume) == 0o2770
    assert mode(volume / "a" / "b" / "file") == 0o660
    assert (mode(outside), outside.stat().st_gid) == (0o600, os.getgid())
    assert mode(tmp_path) == 0o700
    assert ownership.is_given(volume, GROUP, read_only=False)
    assert not ownership.is_given(volume, GROUP + 1, read_only=False)


def test_what_is_read_only_gets_no_permission_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o600)
    tmp_path.chmod(0o755)
    ownership.give(tmp_path, GROUP, read_only=True)
    assert mode(tmp_path / "file") == 0o640
    assert mode(tmp_path) == 0o2755
    assert ownership.is_given(tmp_path, GROUP, read_only=True)


@pytest.mark.parametrize(
    ("pod_user", "users", "expected"),
    [
        (None, [None], None),
        (7, [None, None], 7),
        (7, [None, 8], None),
        (None, [8, 8], 8),
        (None, [8, None], None),
    ],
)
def test_the_user_is_the_one_that_all_containers_run_as(
    pod_user: int | None, users: list[int | None], expected: int | None
) -> None:
    containers: list[dict[str, Any]] = [
        {"name": f"c{index}", "securityContext": {"runAsUser": user}} for index, user in enumerate(users)
    ]
    spec = {"containers": containers, "securityContext": {"runAsUser": pod_user}}
    assert ownership.fs_user(msgspec.convert({"metadata": {}, "spec": spec}, Pod)) == expected
