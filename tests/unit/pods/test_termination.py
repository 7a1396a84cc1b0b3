"""What a container leaves behind: messages in all the places and shapes that a guest may choose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from providers.base import Exit, ExitReason, Preopen
from vkubelet.api.containers import Container
from vkubelet.pods import termination


def end(code: int = 0, message: str = "", reason: ExitReason = ExitReason.COMPLETED) -> Exit:
    return Exit(code, reason, message, 1, 2)


def container(path: str = "/dev/termination-log", policy: str = "File") -> Container:
    return Container(name="a", termination_message_path=path, termination_message_policy=policy)


def message(tmp_path: Path, spec: Container, ended: Exit | None = None, log: bytes = b"") -> str:
    (tmp_path / "0.log").write_bytes(log)
    file = termination.place(tmp_path / "told", spec, 0)
    return termination.completed(spec, ended or end(), file, tmp_path / "0.log", dict).message


@pytest.mark.parametrize(
    ("path", "guest"), [("/dev/termination-log", "/dev"), ("mine/log", "/mine"), ("/a/../../b/c", "/b")]
)
def test_the_guest_sees_the_files_directory(tmp_path: Path, path: str, guest: str) -> None:
    spec = container(path)
    shown = termination.prepare(tmp_path / "told", spec, 0, ())
    assert shown is not None
    assert shown.guest == guest
    (shown.host / Path(path).name).write_text("done")
    assert message(tmp_path, spec) == "done"


def test_each_attempt_has_a_file_of_its_own(tmp_path: Path) -> None:
    spec = container()
    first, second = (termination.prepare(tmp_path / "told", spec, number, ()) for number in (0, 1))
    assert first is not None
    assert second is not None
    assert first.host != second.host


@pytest.mark.parametrize("mount", ["/dev", "/", "/dev/termination-log"])
def test_what_a_mount_covers_has_no_place_of_its_own(tmp_path: Path, mount: str) -> None:
    shown = termination.prepare(tmp_path / "told", container(), 0, (Preopen(tmp_path, mount),))
    assert (shown is None) is (mount != "/dev/termination-log")


def test_a_message_in_the_guests_own_tree_is_found_there(tmp_path: Path) -> None:
    root, volume = tmp_path / "root", tmp_path / "volume"
    for directory in (root, volume):
        directory.mkdir()
    (root / "flat").write_text("in the root")
    (volume / "deep").write_text("in a volume")
    tree = {"/": root, "/data": volume}

    def found(path: str) -> str:
        return termination.completed(container(path), end(), tmp_path / "no/file", root, lambda: tree).message

    assert found("/flat") == "in the root"
    assert found("/data/deep") == "in a volume"
    (volume / "deep").unlink()
    (volume / "deep").symlink_to("/etc/passwd")
    assert found("/data/deep") == "Error on reading termination log: too many levels of symbolic links"


def test_what_a_guest_made_of_the_file_is_not_followed(tmp_path: Path) -> None:
    shown = termination.prepare(tmp_path / "told", container(), 0, ())
    assert shown is not None
    file = shown.host / "termination-log"
    file.unlink()
    assert message(tmp_path, container()) == ""
    file.symlink_to("/etc/passwd")
    assert message(tmp_path, container()).startswith("Error on reading termination log")
    file.unlink()
    os.mkfifo(file)
    assert message(tmp_path, container()) == "Error on reading termination log: not a regular file"


def test_a_message_is_cut_and_follows_the_runtimes_own(tmp_path: Path) -> None:
    shown = termination.prepare(tmp_path / "told", container(), 0, ())
    assert shown is not None
    (shown.host / "termination-log").write_bytes(b"\xff" + b"x" * 10_000)
    told = message(tmp_path, container(), end(134, "a trap", ExitReason.TRAP))
    assert told == "a trap: \N{REPLACEMENT CHARACTER}" + "x" * 4095


LOG = b"".join(b"2026-01-01T00:00:00.0Z stderr %b line %d\n" % (b"F", number) for number in range(100))


def test_the_logs_last_lines_stand_in_where_the_policy_says_so(tmp_path: Path) -> None:
    failed = end(3, reason=ExitReason.ERROR)
    fallback = container(policy="FallbackToLogsOnError")
    lines = message(tmp_path, fallback, failed, LOG).splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("line 20", "line 99", 80)
    assert message(tmp_path, fallback, end(), LOG) == ""
    assert message(tmp_path, container(), failed, LOG) == ""
    cannot = end(128, "no module", ExitReason.CANNOT_RUN)
    assert message(tmp_path, fallback, cannot, LOG) == "no module"


def test_a_long_line_of_a_log_is_cut_at_its_start(tmp_path: Path) -> None:
    log = b"2026-01-01T00:00:00.0Z stdout P " + b"a" * 40_000 + b"\n2026-01-01T00:00:00.0Z stdout F end\n"
    told = message(tmp_path, container(policy="FallbackToLogsOnError"), end(1, reason=ExitReason.ERROR), log)
    assert told == "end\n"
