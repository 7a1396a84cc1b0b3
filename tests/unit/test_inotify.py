"""Watches of real directories, sharing one inotify instance."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import Iterator

import pytest
from exhausted import no_files

from vkubelet import inotify
from vkubelet.inotify import DirectoryWatcher


@pytest.fixture
async def watcher() -> Iterator[DirectoryWatcher]:
    made = DirectoryWatcher()
    yield made
    made.close()


async def soon(waiting) -> None:
    async with asyncio.timeout(20):
        await waiting


async def test_writing_making_renaming_and_removing_wake(watcher, tmp_path):
    file = tmp_path / "file"
    watch = watcher.watch(tmp_path)
    for change in (
        file.touch,
        lambda: file.write_text("x"),
        lambda: file.rename(tmp_path / "other"),
        (tmp_path / "other").unlink,
        tmp_path.rmdir,
    ):
        assert watch.arm()
        change()
        await soon(watch.wait())
    assert not watch.arm()


async def test_a_change_between_arming_and_waiting_is_not_lost(watcher, tmp_path):
    watch = watcher.watch(tmp_path)
    watch.arm()
    (tmp_path / "file").touch()
    async with asyncio.timeout(20):
        while watcher.armed:  # noqa: ASYNC110  nothing else announces that the event was read
            await asyncio.sleep(0.001)
    await soon(watch.wait())


async def test_an_armed_watch_fires_once_however_much_is_written(watcher, tmp_path):
    watch = watcher.watch(tmp_path)
    watch.arm()
    with (tmp_path / "file").open("wb", buffering=0) as file:
        await soon(watch.wait())
        for _ in range(1000):
            file.write(b"x")
        try:
            # At most the word that the watch is gone, which follows its one event.
            assert len(os.read(watcher._inotify, 65536)) == 16
        except BlockingIOError:
            assert watcher.armed == 0  # that had been read together with the event


async def test_leaving_a_directory_and_rights_wake_those_who_ask_for_any_change(tmp_path):
    watcher = DirectoryWatcher(inotify.ANY)
    file, elsewhere = tmp_path / "watched" / "file", tmp_path / "elsewhere"
    file.parent.mkdir()
    file.touch()
    watch = watcher.watch(file.parent)
    for change in (lambda: file.chmod(0o400), lambda: file.rename(elsewhere)):
        assert watch.arm()
        change()
        await soon(watch.wait())
    watcher.close()


async def test_watchers_of_one_directory_share_a_watch_and_all_wake(watcher, tmp_path):
    watches = [watcher.watch(tmp_path) for _ in range(3)]
    for watch in watches:
        assert watch.arm()
        assert watch.arm()
    assert watcher.armed == 1
    watches.pop().close()
    (tmp_path / "file").touch()
    for watch in watches:
        await soon(watch.wait())
    assert watcher.armed == 0


async def test_closing_disarms_and_only_its_own(watcher, tmp_path):
    first, second = watcher.watch(tmp_path), watcher.watch(tmp_path)
    first.arm()
    second.arm()
    first.close()
    first.close()
    assert watcher.armed == 1
    second.close()
    assert watcher.armed == 0
    third = watcher.watch(tmp_path)
    third.arm()
    (tmp_path / "file").touch()
    third.close()
    assert watcher.armed == 0


async def test_there_is_another_reason_to_wake(watcher, tmp_path):
    watch = watcher.watch(tmp_path)
    watch.arm()
    watch.wake()
    await soon(watch.wait())
    watch.close()


async def test_no_directory_is_no_watch(watcher, tmp_path):
    assert not watcher.watch(tmp_path / "missing").arm()
    (tmp_path / "file").touch()
    assert not watcher.watch(tmp_path / "file").arm()


async def test_lost_events_wake_everybody(watcher, tmp_path, monkeypatch):
    watches = []
    for name in "abc":
        (tmp_path / name).mkdir()
        watches.append(watcher.watch(tmp_path / name))
        watches[-1].arm()
    overflow = struct.pack("iIII", -1, inotify.IN_Q_OVERFLOW, 0, 0)
    monkeypatch.setattr(inotify.os, "read", lambda *_: overflow)
    watcher._read(-1)
    monkeypatch.undo()
    for watch in watches:
        await soon(watch.wait())
    assert watcher.armed == 0


async def test_an_instance_is_wanted_by_the_first_watch_and_not_before(watcher, tmp_path):
    watch = watcher.watch(tmp_path)
    with no_files([os.getpid()]), pytest.raises(OSError, match="max_user_instances") as raised:
        watch.arm()
    assert raised.value.filename == str(tmp_path)
    assert watch.arm()
    (tmp_path / "file").touch()
    await soon(watch.wait())


@pytest.mark.parametrize(
    ("number", "text"),
    [(errno.ENOSPC, "max_user_watches"), (errno.EMFILE, "max_user_instances"), (errno.EACCES, "denied")],
)
def test_limits_are_named(number, text, monkeypatch):
    monkeypatch.setattr(inotify.ctypes, "get_errno", lambda: number)
    with pytest.raises(OSError, match=text):
        inotify._checked(-1, "directory")
