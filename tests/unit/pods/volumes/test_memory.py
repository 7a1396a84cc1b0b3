"""The directory for what must not be on a disk, for nodes that may mount and nodes that may not."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from vkubelet.pods.volumes import tmpfs
from vkubelet.pods.volumes.memory import Memory


def refuse(*_arguments: object, **_options: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_node_that_may_mount_has_memory_and_gives_it_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = tmp_path / "run" / "volumes"
    memory = Memory(where)
    memory.open()
    assert where.stat().st_mode & 0o777 == 0o700
    if os.geteuid() != 0:
        assert "set run-dir" in caplog.text
        return
    assert (memory.is_certain, memory.narrowed) == (True, False)
    (where / "pod").mkdir()
    memory.close()
    assert where.is_mount()
    again = Memory(where)
    again.open()
    assert again.is_certain
    (where / "pod").rmdir()
    again.close()
    assert not where.is_mount()
    again.close()


def test_a_node_that_may_not_keeps_files_to_itself_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tmpfs, "mount", refuse)
    monkeypatch.setattr(tmpfs, "is_in_memory", lambda _: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    memory = Memory(tmp_path / "volumes")
    with caplog.at_level(logging.WARNING):
        memory.open()
    assert (memory.is_certain, memory.narrowed) == (False, True)
    assert "secrets are files for the node's user alone" in caplog.text
    memory.close()


def test_a_run_directory_in_memory_needs_no_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tmpfs, "mount", refuse)
    monkeypatch.setattr(tmpfs, "is_in_memory", lambda _: True)
    memory = Memory(tmp_path / "volumes")
    memory.open()
    assert memory.is_certain
