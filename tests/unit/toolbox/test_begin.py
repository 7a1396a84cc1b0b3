"""The toolbox begins in the middle of a program: what an instance is given reaches it nevertheless."""

from __future__ import annotations

from pathlib import Path

from .conftest import Guest


def test_random_numbers_are_its_own(guest: Guest) -> None:
    """The program that it is an image of had the same for all."""
    told = [guest.sh("echo $RANDOM $RANDOM $RANDOM; mktemp -p /").text for _ in range(3)]
    lines = [line for text in told for line in text.splitlines()]
    assert len(set(lines)) == len(lines) == 6


def test_arguments_and_environment_are_its_own(guest: Guest) -> None:
    env = {"FIRST": "1=2", "EMPTY": "", "PATH": "/elsewhere"}
    assert guest.run("env", env=env).text.splitlines() == ["PATH=/elsewhere", "PWD=/", "FIRST=1=2", "EMPTY="]
    assert guest.run("printf", "%s,", "a b", "").text == "a b,,"


def test_directories_are_its_own(guest: Guest, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "file").write_text("there\n")
    assert guest.run("cat", "/a/long/place/file", mounts={"/a/long/place": mounted}).text == "there\n"
    assert guest.run("cat", "file", env={"PWD": "/m"}, mounts={"/m": mounted}).text == "there\n"
    assert guest.run("cat", "/a/long/place/file").status == 1


def test_time_goes_on(guest: Guest) -> None:
    """Of the program that it is an image of it was the first moment of all clocks."""
    assert int(guest.run("date", "+%s").text) > 1_700_000_000
    assert guest.sh("sleep 0.01; (sleep 0.01; echo slept) | cat").text == "slept\n"
    assert guest.run("date", "-d", "@0", "+%H", env={"TZ": "UTC"}).text == "00\n"
