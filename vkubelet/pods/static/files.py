"""The manifests in a directory, or in one file: read whole, each on its own.

It exists so that one file that cannot be read, or says what no pod can be, costs itself alone. It blocks and
is called in a thread. It must not know what becomes of the pods.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from vkubelet.pods.manifests.errors import ManifestError
from vkubelet.pods.manifests.reading import Manifest
from vkubelet.pods.manifests.text import LARGEST, documents
from vkubelet.pods.static.identity import static_pod


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What is in a directory, by file: the pods that are named, and what is wrong with the other files.

    `exists` says whether the directory, or the file, is there at all.
    """

    pods: Mapping[str, Manifest]
    faults: Mapping[str, str]
    exists: bool = True


def read_all(path: Path, node_name: str, now: float) -> Found:
    """Read every file of the directory `path`, or the file of that name.

    Files whose names begin with a dot are left out. Raises OSError when `path` itself cannot be read.
    """
    try:
        is_directory = stat.S_ISDIR(path.stat().st_mode)
        files = sorted(_visible(path)) if is_directory else [path]
    except FileNotFoundError:
        return Found({}, {}, exists=False)
    pods: dict[str, Manifest] = {}
    faults: dict[str, str] = {}
    for file in files:
        try:
            pods[str(file)] = _read(file, node_name, now)
        except FileNotFoundError:
            continue  # it was taken away meanwhile, which the next look tells
        except ManifestError as error:
            faults[str(file)] = str(error)
        except OSError as error:
            faults[str(file)] = f"{file}: {error.strerror or error}"
    return _without_doubles(pods, faults)


def _visible(directory: Path) -> Iterable[Path]:
    return (entry for entry in directory.iterdir() if not entry.name.startswith("."))


def _read(file: Path, node_name: str, now: float) -> Manifest:
    """The file's pod. Raises ManifestError and OSError."""
    # Opening a pipe that nobody writes to would wait for ever.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise ManifestError(str(file), "", ["is a directory, and not looked into"])
        if not stat.S_ISREG(mode):
            raise ManifestError(str(file), "", ["is no file"])
        with os.fdopen(descriptor, "rb", closefd=False) as opened:
            data = opened.read(LARGEST + 1)
    finally:
        os.close(descriptor)
    found = documents(data, str(file))
    if len(found) != 1:
        raise ManifestError(str(file), "", [f"expected one Pod, found {len(found)} documents"])
    return static_pod(found[0], str(file), node_name, now)


def _without_doubles(pods: Mapping[str, Manifest], faults: dict[str, str]) -> Found:
    """Of two files that name one pod the first counts; the other is at fault."""
    kept: dict[str, Manifest] = {}
    names: dict[str, str] = {}
    for file, manifest in pods.items():
        for name in (manifest.pod.key, f"uid {manifest.pod.metadata.uid}"):
            first = names.setdefault(name, file)
            if first != file:
                faults[file] = f"{file}: pod {manifest.pod.key}: {first} names it already"
        if file not in faults:
            kept[file] = manifest
    return Found(kept, faults)
