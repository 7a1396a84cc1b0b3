"""Images with their files in place, one directory each.

    ROOT/HEX/rootfs            the files, as all layers together make them
    ROOT/HEX/contents.json     what they were when they were whole; see oci.layers.contents
    ROOT/.new-TOKEN/           what is being made, locked; leftovers are removed at the next start
    ROOT/.old-TOKEN/           what is being removed

HEX is that of the image's manifest's digest. It exists so that a crash at any moment leaves an image's files
whole or not at all under their final name; what is lost or damaged there is made anew from the layers' blobs.
Nothing is synced, which would wait for all that anybody writes: a file that a power failure has cut short is
found by its size. All of it blocks. It must not know registries.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from oci.errors import InvalidLayerError, Named, StoreError
from oci.ingest import remove_abandoned
from oci.layers.apply import Unpacker
from oci.layers.compression import ARCHIVES
from oci.layers.contents import Contents, is_unchanged, survey
from oci.layers.errors import LayerError
from oci.layers.tree import Tree

log = logging.getLogger(__name__)

_ROOTFS, _CONTENTS = "rootfs", "contents.json"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer whose blob is the file `path`; `diff_id` is the digest of the archive in it, if it is known."""

    path: Path
    media_type: str
    digest: str
    diff_id: str | None


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """An image's files below `root`, which nobody may change.

    `modules` are the digests of those that are WebAssembly, by their paths from `root` with no link in them.
    """

    root: Path
    modules: Mapping[str, str]

    @property
    def record(self) -> Path:
        """The file that is there as long as all of it is."""
        return self.root.parent / _CONTENTS


class Unpacked:
    """The directories of one image store, under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self) -> None:
        """Make the directory, and remove what a crash left. Raises OSError."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._root.glob(".*-*"):
            remove_abandoned(path, shutil.rmtree)

    def files(self, reference: Named, digest: str, layers: Sequence[Layer]) -> ImageFiles:
        """The files of the image whose manifest has this digest; made if they are not there in full.

        Raises InvalidLayerError and StoreError.
        """
        final = self._path(digest)
        with _failures(reference, self._root):
            found = self._found(final)
            if found is not None:
                return found
            with self._fresh() as fresh:
                contents = _make(reference, fresh, layers)
                try:
                    fresh.rename(final)
                except OSError:
                    # Another process was faster, which is as good if it has made all of it.
                    found = self._found(final)
                    if found is not None:
                        return found
                    raise
        return ImageFiles(final / _ROOTFS, contents.modules)

    def remove(self, files: ImageFiles) -> None:
        """Remove the files of an image, which are damaged. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            self._remove(files.root.parent)

    def remove_all_but(self, digests: Collection[str]) -> None:
        """Remove the files of all other images. Raises OSError."""
        kept = {self._path(digest) for digest in digests}
        for path in self._root.iterdir():
            if path not in kept and not path.name.startswith("."):
                self._remove(path)

    def _path(self, digest: str) -> Path:
        return self._root / digest.partition(":")[2]

    def _found(self, path: Path) -> ImageFiles | None:
        """What is there, unless it is damaged, which is then removed."""
        try:
            contents = msgspec.json.decode((path / _CONTENTS).read_bytes(), type=Contents)
            why = "" if is_unchanged(path / _ROOTFS, contents) else "its files are not as they were made"
        except (FileNotFoundError, NotADirectoryError):
            if not path.exists():
                return None
            why = "something of it is missing"
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            why = str(error)
        if why:
            log.warning("image store: %s is corrupt and is made anew: %s", path, why)
            self._remove(path)
            return None
        return ImageFiles(path / _ROOTFS, contents.modules)

    def _remove(self, path: Path) -> None:
        """Out of the way in one step: nothing is ever found half removed."""
        if not path.is_dir():
            path.unlink()
            return
        old = self._root / f".old-{secrets.token_hex(8)}"
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.rename(old)
        remove_abandoned(old, shutil.rmtree)

    @contextlib.contextmanager
    def _fresh(self) -> Iterator[Path]:
        """A new directory, locked for as long as it is used: that tells it from what a crash left."""
        path, opened = self._create()
        try:
            yield path
        finally:
            os.close(opened)
            if path.exists():
                shutil.rmtree(path)

    def _create(self) -> tuple[Path, int]:
        """A new directory, open and locked."""
        while True:
            path = self._root / f".new-{secrets.token_hex(8)}"
            path.mkdir(mode=0o700)
            with contextlib.suppress(FileNotFoundError):  # another process swept it away
                opened = os.open(path, _DIRECTORY)
                fcntl.flock(opened, fcntl.LOCK_EX)
                if os.fstat(opened).st_nlink:
                    return path, opened
                os.close(opened)  # before it was locked


def _make(reference: Named, directory: Path, layers: Sequence[Layer]) -> Contents:
    root = directory / _ROOTFS
    root.mkdir()
    root.chmod(0o755)
    opened = os.open(root, _DIRECTORY)
    try:
        tree = Tree(opened)
        unpacker = Unpacker(tree)
        for layer in layers:
            try:
                with layer.path.open("rb") as file:
                    unpacker.apply(file, ARCHIVES[layer.media_type], layer.diff_id)
            except LayerError as error:
                raise InvalidLayerError(reference, f"layer {layer.digest}: {error}") from error
        unpacker.finish()
        if unpacker.left_out:
            log.info("%s: %d device nodes and pipes are left out", reference, unpacker.left_out)
        contents = survey(root)
        (directory / _CONTENTS).write_bytes(msgspec.json.encode(contents))
    finally:
        os.close(opened)
    return contents


@contextlib.contextmanager
def _failures(reference: Named, root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = f"unpacking in {root}: {error.strerror or error}"
        raise StoreError(reference, cause) from error
