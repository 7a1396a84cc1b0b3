"""A container's log, taken apart into what it wrote where."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vkubelet.play.output import STDERR, STDOUT, Splitter

TIME = b"2026-01-01T00:00:00.000000000Z"


def log(*lines: tuple[str, str]) -> bytes:
    """Lines of a stream and a tag, `stdout F`, and a text."""
    return b"".join(b"%s %s %s\n" % (TIME, head.encode(), text.encode()) for head, text in lines)


def test_lines_go_where_they_were_written_in_their_order():
    data = log(("stdout F", "a"), ("stdout F", "b"), ("stderr F", "c"), ("stdout F", "d"))
    assert list(Splitter(b"").feed(data)) == [(STDOUT, b"a\nb\n"), (STDERR, b"c\n"), (STDOUT, b"d\n")]


def test_pieces_of_a_line_are_one_line_and_have_one_prefix():
    data = log(("stdout P", "a"), ("stderr F", "x"), ("stdout F", "b"), ("stdout F", "c"))
    assert list(Splitter(b"[m] ").feed(data)) == [
        (STDOUT, b"[m] a"),
        (STDERR, b"[m] x\n"),
        (STDOUT, b"b\n[m] c\n"),
    ]


def test_what_is_no_line_of_a_log_is_left_out():
    assert list(Splitter(b"").feed(b"nonsense\n\n" + log(("stdout F", "a")))) == [(STDOUT, b"a\n")]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=10)
LINES = st.lists(
    st.tuples(st.sampled_from(["stdout F", "stderr F", "stdout P", "stderr P"]), TEXT), max_size=20
)


@given(LINES, st.lists(st.integers(1, 40), max_size=30))
def test_it_does_not_matter_where_the_log_is_cut(lines, sizes):
    data = log(*lines)
    whole: dict[int, bytes] = {STDOUT: b"", STDERR: b""}
    for descriptor, text in Splitter(b"> ").feed(data):
        whole[descriptor] += text
    cut: dict[int, bytes] = {STDOUT: b"", STDERR: b""}
    splitter, position = Splitter(b"> "), 0
    for size in [*sizes, len(data)]:
        for descriptor, text in splitter.feed(data[position : position + size]):
            cut[descriptor] += text
        position += size
    for descriptor, text in splitter.feed(data[position:]):
        cut[descriptor] += text
    assert cut == whole
