"""Memory: found out, mounted with a size, and removed with what is mounted below."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vkubelet.pods.volumes import removal, tmpfs


def test_shared_memory_is_in_memory_and_proc_is_not(tmp_path: Path) -> None:
    assert tmpfs.is_in_memory(Path("/dev/shm"))
    assert not tmpfs.is_in_memory(Path("/proc"))
    with pytest.raises(FileNotFoundError):
        tmpfs.is_in_memory(tmp_path / "missing")


def test_a_mount_has_its_size_and_mode_and_goes_with_what_is_around_it(tmp_path: Path) -> None:
    mounted = tmp_path / "a b"
    mounted.mkdir()
    if os.geteuid() != 0:
        with pytest.raises(PermissionError):
            tmpfs.mount(mounted)
        return
    tmpfs.mount(mounted, size=64 * 1024, mode=0o711)
    assert tmpfs.is_in_memory(mounted)
    assert mounted.stat().st_mode & 0o777 == 0o711
    with pytest.raises(OSError, match="No space") as failure:
        (mounted / "large").write_bytes(b"x" * 65 * 1024)
    assert failure.value.errno == errno.ENOSPC
    (mounted / "inner").mkdir()
    tmpfs.mount(mounted / "inner")
    assert removal.mounts_below(mounted) == [mounted / "inner", mounted]
    removal.remove(mounted.parent)
    assert not mounted.parent.exists()


def test_removing_what_is_not_there_does_nothing(tmp_path: Path) -> None:
    removal.remove(tmp_path / "missing")
