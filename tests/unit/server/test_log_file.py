"""The files of one log: their order, the tail on disk, and which comes next while the writer goes on."""

from __future__ import annotations

import os
import threading

import pytest

from vkubelet.server.log_file import BLOCK, LogFile, Place, rotation_order


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("1.log", (10**9,)),
        ("1.log.20261124-020000", (20261124, 20000)),
        ("1.log.20261124-020000.1", (20261124, 20000, 1)),
        ("1.log.20261124-020000.000012", (20261124, 20000, 12)),
        ("11.log", None),
        ("11.log.20261124-020000", None),
        ("1.log.20261124-020000.gz", None),
        ("1.log.20261124-020000.tmp", None),
        ("1.log.", None),
        ("1.log.old", None),
        ("2.log", None),
    ],
)
def test_which_files_are_a_logs_and_in_which_order(name, order):
    assert rotation_order("1.log", name) == order


def test_files_rotated_within_a_second_stay_in_order():
    names = [f"0.log.20261124-020000.{number}" for number in range(1, 12)]
    files = ["0.log.20261124-020000", *names, "0.log.20261124-020001", "0.log"]
    shuffled = [*files[5:], *files[:5]]
    assert sorted(shuffled, key=lambda name: rotation_order("0.log", name) or ()) == files


def test_reading_and_places(source, writer):
    writer.line("one")
    first = LogFile(source.path)
    assert first.read().endswith(b" one\n")
    assert first.read() == b""
    assert first.place() is Place.CURRENT
    assert first.successor() is None
    writer.rename_away()
    assert first.place() is Place.CURRENT
    assert first.successor() is None
    writer.begin_anew()
    writer.line("two")
    assert first.place() is Place.ROTATED
    writer.rotate()
    second = first.successor()
    assert second is not None
    assert second.read().endswith(b" two\n")
    for file in source.path.parent.iterdir():
        file.unlink()
    assert first.place() is Place.REMOVED
    assert first.successor() is None
    source.path.parent.rmdir()
    assert first.successor() is None
    for file in (first, second):
        file.close()
        file.close()
        assert file.read() == b""
        assert file.place() is Place.REMOVED


def test_a_removed_file_is_followed_by_the_oldest_left(source, new_writer):
    writer = new_writer(source.path, keep=2)
    first = LogFile(source.path)
    for number in range(5):
        writer.rotate()
        writer.line(str(number))
    assert first.place() is Place.REMOVED
    shown = []
    file: LogFile | None = first
    while file is not None and (file := file.successor()) is not None:
        shown.append(file.read()[-2:-1])
    assert shown == [b"2", b"3", b"4"]
    writer.close()


def test_the_tail_is_read_from_the_end(source, writer):
    for number in range(20_000):
        writer.line(str(number))
    file = LogFile(source.path)
    file.seek_tail(3)
    data = file.read()
    assert [line[40:] for line in data.split(b"\n")] == [b"19997", b"19998", b"19999", b""]
    file.seek_tail(10**6)
    assert len(file.read()) == BLOCK
    file.close()
    file.seek_tail(1)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_a_regular_file_is_a_log(source, make):
    make(source.path)
    with pytest.raises(OSError, match="not a regular file"):
        LogFile(source.path)


def test_no_link_is_a_log(source, tmp_path):
    (tmp_path / "elsewhere").write_text("2026-01-01T00:00:00.000000000Z stdout F not this container's\n")
    source.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        LogFile(source.path)


def test_no_file_is_passed_over_while_the_writer_rotates(source, new_writer):
    writer = new_writer(source.path)
    rotations = 300

    def rotate() -> None:
        for number in range(1, rotations + 1):
            writer.rotate()
            writer.raw(b"%d\n" % number)

    file = LogFile(source.path)
    thread = threading.Thread(target=rotate)
    thread.start()
    opened = 0
    while opened < rotations:
        following = file.successor()
        if following is None:
            continue
        opened += 1
        data = b""
        while not data.endswith(b"\n"):
            data += following.read()
        assert data == b"%d\n" % opened
        file.close()
        file = following
    thread.join()
    file.close()
    writer.close()
