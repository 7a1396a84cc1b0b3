"""Files of runtime state: read with doubt, and written whole.

It exists so that whoever reads finds all of a file or the one before, and hears which is damaged. It must not
know what is in a file, nor which there are.
"""

from __future__ import annotations

import os
from pathlib import Path

from providers import intact
from providers.wasmtime.files import CorruptFileError


def read(path: Path, most: int | None = None, *, owned: bool = True) -> bytes:
    """See intact.read. Raises CorruptFileError that names the file."""
    try:
        return intact.read(path, most, owned=owned)
    except intact.DamagedError as error:
        raise CorruptFileError(f"{path.name}: {error}") from error


def write(path: str, data: bytes, mode: int = 0o600) -> None:
    """Write a file whole. Runtime state belongs to one boot: nothing is synced."""
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        if mode != 0o600:
            os.fchmod(fd, mode)  # whatever the umask
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
    os.rename(temporary, path)  # noqa: PTH104  paths are text here, as in directory.py
