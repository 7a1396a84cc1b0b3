"""The shell as a person has it: a prompt, keys, completion, Ctrl-C and Ctrl-D."""

from __future__ import annotations

import pytest
from terminal import Terminal
from toolbox_guest import environment

PROMPT = r"/ # "


@pytest.fixture
def shell(guest):
    (guest.root / "notes.txt").write_text("noted\n")
    (guest.root / "dir").mkdir()
    with Terminal(guest.command("sh"), environment()) as terminal:
        terminal.expect(PROMPT)
        yield terminal


def test_a_line_is_edited(shell):
    shell.send("ecxo hi\x1b[D\x1b[D\x1b[D\x1b[D\x7fh\x05 there\r")
    shell.expect(r"\r\nhi there\r\n/ # ")
    shell.send("junk\x15echo $((6*7))\r")
    shell.expect(r"\r\n42\r\n/ # ")


def test_the_history_is_walked_and_searched(shell):
    shell.send("echo first\r")
    shell.expect(r"\r\nfirst\r\n/ # ")
    shell.send("true\r")
    shell.expect(PROMPT)
    shell.send("\x1b[A\x1b[A\r")
    shell.expect(r"\r\nfirst\r\n/ # ")
    shell.send("fir\x12\r")
    shell.expect(r"\r\nfirst\r\n/ # ")


def test_words_are_completed(shell):
    shell.send("cat no\t\r")
    shell.expect(r"\r\nnoted\r\n/ # ")
    shell.send("cd d\t\r")
    shell.expect(r"\r\n/dir # ")


def test_ctrl_c_at_the_prompt_clears_the_line(shell):
    shell.send("echo never\x03")
    shell.expect(r"\^C\r\n/ # ")
    shell.send("for i in a\r")
    shell.expect("> ")
    shell.send("\x03")
    shell.expect(PROMPT)
    shell.send("echo $?\r")
    shell.expect(r"\r\n\d+\r\n/ # ")


def test_ctrl_c_ends_a_command_with_its_instance(shell):
    shell.send("sleep 1000; echo never\r")
    shell.expect(r"never\r\n")
    assert shell.is_cooked  # before the line's end was shown, so that no Ctrl-C is lost
    shell.send("\x03")
    assert shell.wait() != 0


def test_a_line_that_cannot_be_read_ends_nothing(shell):
    shell.send("echo )\r")
    shell.expect(r"sh: .*\r\n/ # ")
    shell.send("exit 4\r")
    assert shell.wait() == 4


def test_ctrl_d_ends_the_shell(shell):
    shell.send("\x04")
    assert shell.wait() == 0


def test_ls_fills_the_terminals_width(shell):
    shell.send("ls\r")
    shell.expect(r"\r\ndir +notes.txt\r\n/ # ")
