"""The log's writer in C: format, pieces of long lines, rotation, full disks; under each sanitizer."""

from __future__ import annotations

import re
import resource
import signal
import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import NATIVE_TESTS, VARIANTS, build, native

PIECE = 16 * 1024
OUT, ERR, BREAK, THREADS = range(4)
LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP]) (.*)\n", re.DOTALL)

Pieces = Iterable[tuple[int, bytes]]


@pytest.fixture(scope="module", params=VARIANTS)
def writer(request: pytest.FixtureRequest) -> Path:
    return native("write_log", request.param, [NATIVE_TESTS / "write_log.c", build.NATIVE / "logs.c"])


def write(
    writer: Path,
    path: Path,
    pieces: Pieces,
    max_bytes: int = 1 << 30,
    max_files: int = 5,
    before: Callable[[], None] | None = None,
) -> None:
    """Write a log, in a process that has called `before`."""
    data = b"".join(struct.pack("<BI", stream, len(text)) + text for stream, text in pieces)
    command = [str(writer), str(path), str(max_bytes), str(max_files)]
    subprocess.run(command, input=data, check=True, timeout=60, preexec_fn=before)


def entries(path: Path) -> list[tuple[bytes, bytes, bytes]]:
    """Stream, tag and text of each line."""
    found = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        match = LINE.fullmatch(line)
        assert match is not None, line
        found.append((match[2], match[3], match[4]))
    return found


def expected(pieces: Pieces) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """What must be in the log, for each stream: tags and texts."""
    result = {}
    for stream, name in ((OUT, b"stdout"), (ERR, b"stderr")):
        text = b"".join(piece for number, piece in pieces if number == stream)
        lines = []
        for line in text.splitlines(keepends=True) if text else []:
            rest = line.removesuffix(b"\n")
            while len(rest) > PIECE:
                lines.append((b"P", rest[:PIECE]))
                rest = rest[PIECE:]
            lines.append((b"F" if line.endswith(b"\n") else b"P", rest))
        result[name] = lines
    return result


# splitlines() ends lines at more than newlines: none of those characters here.
TEXT = st.text("ab\n é", max_size=30).map(str.encode)
LONG = st.tuples(
    st.sampled_from([PIECE - 1, PIECE, PIECE + 1, 3 * PIECE]), st.sampled_from([b"", b"\n"])
).map(lambda parts: b"x" * parts[0] + parts[1])


@given(pieces=st.lists(st.tuples(st.sampled_from([OUT, ERR]), TEXT | LONG), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_all_that_was_written_is_there(
    writer: Path, pieces: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "0.log"
    write(writer, path, pieces)
    found = entries(path)
    for name, lines in expected(pieces).items():
        assert [(tag, text) for stream, tag, text in found if stream == name] == lines


def test_raw_bytes_pass_as_they_are(writer: Path, tmp_path: Path) -> None:
    raw = bytes(byte for byte in range(256) if byte != 10)
    write(writer, tmp_path / "0.log", [(OUT, raw + b"\n")])
    assert LINE.fullmatch((tmp_path / "0.log").read_bytes())[4] == raw  # type: ignore[index]


def test_a_break_ends_what_was_held_back(writer: Path, tmp_path: Path) -> None:
    write(writer, tmp_path / "0.log", [(ERR, b"begun"), (BREAK, b""), (ERR, b"trap")])
    assert entries(tmp_path / "0.log") == [(b"stderr", b"F", b"begun"), (b"stderr", b"P", b"trap")]


def test_a_log_goes_on_at_its_end(writer: Path, tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        write(writer, tmp_path / "0.log", [(OUT, text)])
    assert [text for _, _, text in entries(tmp_path / "0.log")] == [b"one", b"two"]


def test_threads_do_not_tear_each_others_lines(writer: Path, tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    data = struct.pack("<BI", THREADS, 8)
    subprocess.run([writer, path, "1000000000", "5"], input=data, check=True, timeout=60)
    lines = [text for _, _, text in entries(path)]
    assert sorted(lines) == sorted(f"thread {t} line {i}".encode() for t in range(8) for i in range(100))


def rotated(path: Path) -> list[Path]:
    """All files of a log, oldest first."""
    older = sorted(file for file in path.parent.iterdir() if file.name.startswith(f"{path.name}."))
    return [*older, path]


@pytest.mark.parametrize("max_files", [1, 2, 5])
def test_a_full_file_is_rotated_and_the_oldest_goes(writer: Path, tmp_path: Path, max_files: int) -> None:
    path = tmp_path / "0.log"
    lines = [f"line {number} {'.' * 60}".encode() for number in range(200)]
    write(writer, path, [(OUT, line + b"\n") for line in lines], max_bytes=1000, max_files=max_files)
    files = rotated(path)
    assert len(files) == max_files
    assert all(re.fullmatch(r"0\.log\.\d{8}-\d{6}(\.\d{6})?", file.name) for file in files[:-1])
    assert all(file.stat().st_size <= 1000 for file in files)
    found = [text for file in files for _, _, text in entries(file)]
    assert found == lines[-len(found) :]
    assert len(found) > 8 * (max_files - 1)


def test_rotation_touches_no_other_log(writer: Path, tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("00.log", "0.logs", "1.log", "1.log.20000101-000000")]
    for other in others:
        other.write_text("other")
    write(writer, tmp_path / "0.log", [(OUT, b"x" * 100 + b"\n")] * 50, max_bytes=500, max_files=2)
    assert all(other.read_text() == "other" for other in others)


def test_a_name_that_is_taken_is_not_overwritten(writer: Path, tmp_path: Path) -> None:
    for _ in range(3):  # writers that know nothing of each other, within a second or not
        write(writer, tmp_path / "0.log", [(OUT, b"x" * 100 + b"\n")] * 3, max_bytes=150, max_files=100)
    assert sum(len(entries(file)) for file in rotated(tmp_path / "0.log")) == 9


def test_what_a_full_disk_loses_is_said(writer: Path, tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk: the long line does not fit, the short one does."""
    path = tmp_path / "0.log"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    lines = [b"x" * 150 + b"\n", b"y" * 400 + b"\n", b"z\n"]
    write(writer, path, [(OUT, line) for line in lines], max_bytes=10**6, before=limit)
    assert entries(path)[0] == (b"stdout", b"F", b"x" * 150)
    assert entries(path)[1][0] == b"stderr"
    assert re.fullmatch(rb"\d+ bytes of this log were lost: File too large", entries(path)[1][2])
    assert len(entries(path)) == 3
    assert entries(path)[2] == (b"stdout", b"F", b"z")


def test_a_log_that_cannot_be_opened(writer: Path, tmp_path: Path) -> None:
    command = [writer, tmp_path / "missing" / "0.log", "100", "1"]
    assert subprocess.run(command, input=b"", check=False).returncode == 2
