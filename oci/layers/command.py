"""Which file of an image a command names, and whether it is WebAssembly.

It exists to hold a runtime's rules for that: a path is from the working directory, a bare name is looked for
along PATH, and links are followed with the image's root as theirs. A name that PATH does not have may be a
file of the working directory, as runwasi has it. It must not know what an image or a pod says is to be run.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oci.binary import MAGIC
from oci.errors import Named, NotWasmError
from oci.layers.errors import LayerError
from oci.layers.unpacked import ImageFiles
from oci.layers.walk import walking

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a command is looked for when nobody says where."""

_HEAD = 64
_KINDS = (
    (b"\x7fELF", "an ELF binary"),
    (b"MZ", "a Windows binary"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O binary"),
)


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A module among an image's files; `guest` is where the image has it, with no link in the path."""

    path: Path
    digest: str
    guest: str


def find_module(
    files: ImageFiles, words: Sequence[str], working_dir: str, search: str | None, reference: Named
) -> ModuleFile:
    """The module that the command `words` names. `search` is PATH, if there is one.

    Blocks for a moment. Raises NotWasmError, whose text says what is there instead.
    """
    if not words or not words[0]:
        raise NotWasmError(
            reference, "no command specified: the image names nothing to run, nor does the pod"
        )
    name = words[0]
    for candidate in _candidates(name, working_dir or "/", DEFAULT_PATH if search is None else search):
        found = _resolved(files.root, candidate)
        if found is None:
            continue
        digest = files.modules.get(found)
        if digest is None:
            raise NotWasmError(
                reference, f"{_shown(name, found)} is {_told(files.root / found)}, no WebAssembly"
            )
        return ModuleFile(files.root / found, digest, f"/{found}")
    where = "no such file in the image" if "/" in name else "no such file in the image's $PATH"
    raise NotWasmError(reference, f"exec: {name!r}: {where}{_instead(files)}")


def _candidates(name: str, working_dir: str, search: str) -> list[str]:
    if "/" in name:
        return [posixpath.join(working_dir, name)]
    directories = [part for part in search.split(":") if part.startswith("/")]
    return [posixpath.join(directory, name) for directory in (*directories, working_dir)]


def _resolved(root: Path, path: str) -> str | None:
    """The path of a file from the root, without links; None if there is no file."""
    opened = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with walking(opened) as walk:
            left = path
            while True:
                directory, _, name = left.rpartition("/")
                walk.go(directory.split("/"))
                target = walk.link(name) if name else None
                if target is None:
                    break
                if target.startswith("/"):
                    walk.back_to_root()
                left = target
            status = os.stat(name, dir_fd=walk.directory, follow_symlinks=False)
            return "/".join((*walk.names, name)) if stat.S_ISREG(status.st_mode) else None
    except (OSError, ValueError, LayerError):
        # A path with a NUL is ValueError's; no name that cannot be opened is a file of the image.
        return None
    finally:
        os.close(opened)


def _shown(name: str, found: str) -> str:
    return name if name == f"/{found}" else f"{name} (/{found})"


def _told(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"#!"):
        interpreter = head[2:].split(b"\n")[0].decode(errors="replace").strip()
        return f"a script for {interpreter}" if interpreter.isprintable() else "a script"
    if head.startswith(MAGIC):
        return "of a name that cannot be told"
    kind = next((text for magic, text in _KINDS if head.startswith(magic)), None)
    return kind or ("a file" if head else "an empty file")


def _instead(files: ImageFiles) -> str:
    known = [f"/{name}" for name in sorted(files.modules)]
    if not known:
        return "; it holds no WebAssembly at all"
    return f"; its modules are {', '.join(known[:4])}{' and more' if len(known) > 4 else ''}"
