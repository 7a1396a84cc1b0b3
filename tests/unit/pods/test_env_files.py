"""Files of variables by the kubelet's table, and files that a guest made to harm."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.pods.env_files import EnvFileError, read


@pytest.mark.parametrize(
    ("content", "key", "expected"),
    [
        ("   K1='a'\n\t\tK2='b'\nK3='c'\n", "K2", "b"),
        ("# comment\n\nK1='a'\n   # another\n\nK2='b'\n", "K2", "b"),
        ("K1='a'\n", "K3", ""),
        ("", "K1", ""),
        ("K1='a#b'\n", "K1", "a#b"),
        ("K1='   a b   '\n", "K1", "   a b   "),
        ("K2=''\nK2='later'\n", "K2", ""),
        ("K1='a=b=c'\n", "K1", "a=b=c"),
        ("K1='a' # note\nK2='b'#note", "K2", "b"),
        ("K1='$X ${Y} \\n \"q\"'\n", "K1", '$X ${Y} \\n "q"'),
        ("K1= 'a'\nK2='b'\n", "K1", ""),
        ("K1= 'a'\nK2='b'\n", "K2", "b"),
        ("K1='one\n\n  two\nthree   '\nK2='b'\n", "K1", "one\n\n  two\nthree   "),
        ("K1='one\ntwo'\nK2='b'\n", "K2", "b"),
        ("K1='中\n🌍'\n", "K1", "中\n🌍"),
        ("K1='a'\r\nK2='b'\r\n", "K2", "b"),
        ("K1='a'\nnot read any more", "K1", "a"),
    ],
)
def test_values(tmp_path: Path, content: str, key: str, expected: str) -> None:
    (tmp_path / "a.env").write_text(content, newline="")
    assert read(tmp_path, "a.env", key) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"K1 = 'a'\nK2='b'\n", "line 1: whitespace before '=' is not allowed"),
        (b"='a'\n", "line 1: empty variable name"),
        (b"K1='a'\nNOTHING\n", "line 2: missing '='"),
        (b"K1=a\n", "line 1: value must be enclosed in single quotes"),
        (b'K1="a"\n', "line 1: value must be enclosed in single quotes"),
        (b"K1='a''b'\n", "line 1: unexpected content after closing quote"),
        (b"K1='a\nb'c\n", "line 2: unexpected content after closing quote"),
        (b"K1='a\nb\n", "line 1: unclosed single quote"),
        (b"K1='\xff'\n", "line 1 is not UTF-8 text"),
        (b"K1='" + b"x" * 70_000 + b"'\n", "line 1 is longer than 65536 bytes"),
        (b"K1='" + b"\n" * 200_000 + b"'\n", "line 1: the value is longer than 131072 characters"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.env").write_bytes(content)
    with pytest.raises(EnvFileError) as raised:
        read(tmp_path, "a.env", "K2")
    assert str(raised.value) == words


def test_no_link_leads_out_of_the_volume(tmp_path: Path) -> None:
    (tmp_path / "outside.env").write_text("K='host'\n")
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "link").symlink_to(tmp_path / "outside.env")
    (volume / "up").symlink_to("../outside.env")
    (volume / "inside.env").write_text("K='guest'\n")
    (volume / "good").symlink_to("/inside.env")
    for path in ("link", "up", "../outside.env"):
        with pytest.raises(EnvFileError, match="No such file"):
            read(volume, path, "K")
    assert read(volume, "good", "K") == "guest"


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for name in ("pipe", "directory"):
        with pytest.raises(EnvFileError):
            read(tmp_path, name, "K")


@given(st.lists(st.text(alphabet="aK=' #\t\n'\\é", max_size=12), max_size=8))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    directory = tmp_path_factory.mktemp("any")
    (directory / "a.env").write_text("\n".join(lines))
    with contextlib.suppress(EnvFileError):
        assert isinstance(read(directory, "a.env", "K"), str)


@given(st.text(alphabet=st.characters(exclude_characters="'\r\0", exclude_categories=["Cs"]), max_size=40))
def test_what_is_quoted_comes_back(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    directory = tmp_path_factory.mktemp("quoted")
    (directory / "a.env").write_text(f"A='x'\nK='{value}'\n", newline="")
    assert read(directory, "a.env", "K") == value
