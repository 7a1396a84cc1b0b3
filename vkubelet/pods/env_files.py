"""Files of environment variables that one container writes for another (KEP-3721), as a kubelet reads them.

It exists because the file is a guest's: it may be of any size, a pipe, or a link to anywhere. It must not
know who asks. The syntax is that of pkg/kubelet/util/env: `NAME='value'`, a value spanning lines if need be.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from providers.rooted import open_in_root

_LONGEST_LINE = 64 * 1024
"""What Go's bufio.Scanner takes."""
_LONGEST_VALUE = 128 * 1024
"""What Linux lets a variable of a process be."""


class EnvFileError(Exception):
    """The file cannot be read, or is none of this syntax; the text says where."""


def read(root: Path, path: str, key: str) -> str:
    """The value of `key` in the file `path` inside the directory `root`; empty if it has none.

    Links are followed as if `root` were the root directory. Blocks. Raises EnvFileError.
    """
    try:
        descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise EnvFileError(f"{path} is no regular file")
            return value(_lines(file), key)
    except OSError as error:
        raise EnvFileError(f"{path}: {error.strerror}") from error


def value(lines: Iterable[str], key: str) -> str:
    """The value of `key`, empty if it is not there.

    Raises EnvFileError for what is wrong before it or in it. A blank before `=` is an error; one after it
    ends the value, as in a shell.
    """
    numbered = enumerate(lines, 1)
    for number, raw in numbered:
        line = raw.lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        name, separator, rest = line.partition("=")
        if not separator:
            raise EnvFileError(f"line {number}: missing '='")
        if not name.rstrip(" \t"):
            raise EnvFileError(f"line {number}: empty variable name")
        if name != name.rstrip(" \t"):
            raise EnvFileError(f"line {number}: whitespace before '=' is not allowed")
        if rest.startswith((" ", "\t")):
            found = ""
        elif not rest.startswith("'"):
            raise EnvFileError(f"line {number}: value must be enclosed in single quotes")
        else:
            found = _quoted(rest[1:], number, numbered)
        if name == key:
            return found
    return ""


def _quoted(rest: str, start: int, numbered: Iterator[tuple[int, str]]) -> str:
    """What stands before the closing quote, perhaps on a later line; nothing but a comment follows it."""
    parts: list[str] = []
    number, size = start, 0
    while True:
        part, quote, after = rest.partition("'")
        parts.append(part)
        if quote:
            break
        following = next(numbered, None)
        if following is None:
            raise EnvFileError(f"line {start}: unclosed single quote")
        number, rest = following
        size += len(part) + 1
        if size > _LONGEST_VALUE:
            raise EnvFileError(f"line {start}: the value is longer than {_LONGEST_VALUE} characters")
    if after.lstrip(" \t") and not after.lstrip(" \t").startswith("#"):
        raise EnvFileError(f"line {number}: unexpected content after closing quote")
    return "\n".join(parts)


def _lines(file: BinaryIO) -> Iterator[str]:
    """Without their ends. Raises EnvFileError for one that is too long or no text."""
    number = 0
    while line := file.readline(_LONGEST_LINE + 2):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise EnvFileError(f"line {number} is longer than {_LONGEST_LINE} bytes")
        try:
            yield line.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise EnvFileError(f"line {number} is not UTF-8 text") from error
