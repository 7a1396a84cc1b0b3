"""Detached processes over real ones: found by their lock, ended in order or by force."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vkubelet.dev import process
from vkubelet.dev.layout import DevError

HOLDER = """
import fcntl, os, signal, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(sys.argv[2] or str(os.getpid()))
lock.flush()
if sys.argv[3] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path) -> Iterator:
    """Starts a process that holds tmp_path/lock, with its pid or another text in it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(text: str = "", manner: str = "") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock"), text, manner]
        running = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(running)
        assert running.stdout is not None
        assert running.stdout.readline() == b"held\n"
        return running

    yield start
    for running in started:
        running.kill()
        running.communicate()


def test_a_holder_is_found_for_as_long_as_it_lives(tmp_path, holder):
    lock = tmp_path / "lock"
    assert process.lock_holder(lock) is None
    running = holder()
    assert process.lock_holder(lock) == running.pid
    running.kill()
    running.wait()
    assert lock.read_text() == str(running.pid)
    assert process.lock_holder(lock) is None


def test_a_holder_that_has_not_named_itself_is_no_process_to_signal(tmp_path, holder):
    holder(text="not a pid")
    with pytest.raises(DevError, match="just starting"):
        process.lock_holder(tmp_path / "lock")


def test_a_process_that_follows_is_ended_by_asking(holder):
    running = holder()
    assert process.end(running.pid, 30) is True
    assert running.wait() == -15


def test_a_process_that_does_not_follow_is_killed(holder):
    running = holder(manner="stubborn")
    assert process.end(running.pid, 0.05) is False
    assert running.wait() == -9


def test_a_process_that_is_gone_has_ended(holder):
    running = holder()
    running.kill()
    running.wait()
    assert process.end(running.pid, 30) is True


def test_a_detached_process_has_its_own_session_and_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    command = [sys.executable, "-c", "import os, sys; print(os.getsid(0) == os.getpid(), file=sys.stderr)"]
    assert process.spawn(command, log).wait(30) == 0
    assert log.read_text() == "before\nTrue\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ""), ("a\nb\nc\n", "b\nc"), ("x" * 200_000 + "\nend\n", "end"), ("one", "one")],
)
def test_the_tail_of_a_log(tmp_path, text, expected):
    log = tmp_path / "log"
    log.write_text(text)
    assert process.tail(log, 2).endswith(expected)
    assert len(process.tail(log, 2)) <= 64 * 1024


def test_the_tail_of_no_log_is_empty(tmp_path: Path):
    assert process.tail(tmp_path / "none") == ""
