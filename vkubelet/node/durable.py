"""Small files that outlive a boot: identity, keys, certificates.

It exists because such a file must be either the old one or the new one, whole, whenever the power goes. It
must not know what is in them. Every function blocks: call it in a thread.
"""

from __future__ import annotations

import os
from pathlib import Path

from providers import intact


def write(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, readable by its owner only, on disk when this returns."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    intact.replace(temporary, path)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
