"""The CRI log format: from the bytes of a log file to what a client asked for.

    2016-10-06T00:17:09.669794202Z stdout F a whole line, or the last part of one
    2016-10-06T00:17:09.669794203Z stderr P a part of a line that

It exists so that everything that is decided about a log's content is pure, and fast: a client reads a
gigabyte through it. It must know neither files nor tasks. The semantics are the kubelet's (ReadLogs of
k8s.io/cri-client): a line that cannot be parsed is left out, a time stamp stands before what begins a
line, and a part ends without a line feed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from vkubelet.server import instant
from vkubelet.server.log_options import STREAMS, LogOptions
from vkubelet.server.log_run import cutter

# Longer lines of a log file are left out instead of being held in memory; writers part lines at 16 KiB.
MAX_LINE = 1024 * 1024

# A line as the node's own containers write it, with a time in UTC and nine digits, has its fields at fixed
# places: the time in [0:30], this in [29:40], then the content. Such a line is not looked at any closer: in
# a line of another shape no content begins early enough to be taken for it, unless the tag is missing.
_SHAPES = {
    b"Z %s %s " % (stream, tag): (stream, tag == b"P")
    for stream in (b"stdout", b"stderr")
    for tag in (b"F", b"P")
}
_WHOLE = frozenset(shape for shape, (_, partial) in _SHAPES.items() if not partial)


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A line of a log file.

    `time` is in fixed width; `instant` is the same in nanoseconds, or None if `time` is in UTC, so that
    comparing texts compares times. `content` has no line feed; `partial` says that none belongs after it.
    """

    time: bytes
    instant: int | None
    stream: bytes
    partial: bool
    content: bytes


def parse_line(raw: bytes) -> Line | None:
    """The fields of `raw`, a line without its line feed; None if it is not in the format."""
    shape = _SHAPES.get(raw[29:40])
    if shape is not None:
        return Line(raw[:30], None, shape[0], shape[1], raw[40:])
    fields = raw.split(b" ", 3)
    if len(fields) < 4 or fields[1] not in STREAMS["All"]:
        return None
    time, stream, tags, content = fields
    try:
        nanoseconds = instant.parse(time)
    except ValueError:
        return None
    return Line(instant.fixed(time), nanoseconds, stream, tags.split(b":")[0] == b"P", content)


def tail_offset(read: Callable[[int, int], bytes], size: int, lines: int, block: int = 65536) -> int:
    """Where the last `lines` lines begin of a file of `size` bytes; `read(offset, length)` reads it.

    It is read backwards and no further than needed. As the kubelet counts: lines of the file, whatever
    their stream, and a last one without a line feed does not count.
    """
    wanted = lines + 1
    right = size
    while right > 0:
        left = max(0, right - block)
        data = read(left, right - left)
        found = data.count(b"\n")
        if found >= wanted:
            position = len(data)
            for _ in range(wanted):
                position = data.rindex(b"\n", 0, position)
            return left + position + 1
        wanted -= found
        right = left
    return 0


class LogFilter:
    """Turns the bytes of a log file, fed in pieces of any size, into what the client gets."""

    def __init__(self, options: LogOptions) -> None:
        """With `tail_lines` and without `follow` no more than so many lines are taken."""
        self._timestamps = options.timestamps
        self._streams = options.streams
        self._shapes = {shape for shape in _WHOLE if _SHAPES[shape][0] in options.streams}
        self._since = options.since
        self._since_text = instant.utc(options.since) if options.since is not None else b""
        self._lines_left = None if options.follow else options.tail_lines
        self._bytes_left = options.limit_bytes
        self._cut = cutter(options.streams, timestamps=options.timestamps)
        self._run_expected = True
        self._carry = b""
        self._overlong = False
        self._line_begins = True
        self.malformed = 0
        """How many lines were left out because they are not in the format, or too long."""

    @property
    def done(self) -> bool:
        """Whether the client has all it asked for, whatever follows in the log."""
        return self._lines_left == 0 or self._bytes_left == 0

    def feed(self, data: bytes) -> bytes:
        """What the client gets of the lines that `data` completes."""
        if self.done:
            return b""
        end = data.rfind(b"\n") + 1
        block = data[:end]
        if self._overlong and block:
            block = block[block.index(b"\n") + 1 :]
            self._overlong = False
        elif block:
            block = self._carry + block
            self._carry = b""
        self._carry += data[end:]
        if len(self._carry) > MAX_LINE or self._overlong:
            self.malformed += not self._overlong
            self._overlong = True
            self._carry = b""
        return self._limited(self._block(block)) if block else b""

    def end_of_file(self) -> bytes:
        """What the client gets of a last line that has no line feed, now that none will come."""
        line, self._carry = self._carry, b""
        self._overlong = False
        if not line or self.done:
            return b""
        return self._limited(b"".join(self._each([line], b"")))

    def _block(self, block: bytes) -> bytes:
        """What the client gets of whole lines, the fastest way that is right for them."""
        begins = self._line_begins or not self._timestamps
        unbounded = self._since is None and self._lines_left is None
        if unbounded and begins and self._run_expected:
            output = self._cut(block)
            if output is not None:
                return output
        lines = block.split(b"\n")
        lines.pop()
        shapes = {line[29:40] for line in lines}
        # Blocks of a log are much alike: what this one is, the next one is probably too.
        self._run_expected = shapes <= self._shapes
        return self._plain(lines) if shapes <= _WHOLE and begins else b"".join(self._each(lines, b"\n"))

    def _plain(self, lines: list[bytes]) -> bytes:
        """The way for whole lines in the fixed shape: one pass over them for each thing asked."""
        if self._lines_left is not None:
            del lines[self._lines_left :]
            self._lines_left -= len(lines)
        if len(self._shapes) < len(_WHOLE):
            lines = [line for line in lines if line[29:40] in self._shapes]
        if self._since is not None:
            # A longer text of the same time sorts after it, so that a line at the very instant stays.
            lines = [line for line in lines if line >= self._since_text]
        if self._timestamps:
            contents = [line[:31] + line[40:] for line in lines]
        else:
            contents = [line[40:] for line in lines]
        if contents:
            contents.append(b"")
        return b"\n".join(contents)

    def _each(self, lines: Iterable[bytes], feed: bytes) -> Iterable[bytes]:
        """The exact way, line by line; `feed` is what ended each of them in the file."""
        for raw in lines:
            if self._lines_left == 0:
                return
            line = parse_line(raw)
            if line is None:
                self.malformed += 1
                continue
            content = line.content if line.partial else line.content + feed
            if line.stream in self._streams and self._is_recent(line):
                if self._timestamps and self._line_begins:
                    yield line.time + b" "
                yield content
            if self._lines_left is not None:
                self._lines_left -= 1
            self._line_begins = not content or content.endswith(b"\n")

    def _is_recent(self, line: Line) -> bool:
        if self._since is None:
            return True
        return line.time >= self._since_text if line.instant is None else line.instant >= self._since

    def _limited(self, output: bytes) -> bytes:
        if self._bytes_left is None:
            return output
        output = output[: self._bytes_left]
        self._bytes_left -= len(output)
        return output
