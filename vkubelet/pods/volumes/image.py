"""image: the files of an image, read-only.

It exists to put what the node's image store has of an image into a directory: the one module of a wasm
artifact, or all of an image's files, shared with the store where the file system allows it. It must not know
how an image gets here: a pod's containers have their images pulled when they start, and an image volume is
pulled like one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from oci.images import Image
from oci.layers.unpacked import ImageFiles
from providers.copying import copy_tree
from providers.removal import remove_tree
from vkubelet.api.objects import Pod
from vkubelet.api.volumes import Volume
from vkubelet.pods.volumes.kinds import Mounted, Prepared
from vkubelet.pods.volumes.layout import Layout, make_private

PLUGIN = "image"
_DIRECTORY_MODE, _FILE_MODE = 0o755, 0o444


class ImageVolumes:
    """See Kind. Until `show`, there is nothing in the volume, and nothing can mount it."""

    renewed = False

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        """See Kind."""
        where = self._layout.on_disk(pod.metadata.uid, PLUGIN, volume.name)
        return Prepared(lambda: Mounted(where, read_only=True), at_once=True)


def show(where: Path, image: Image) -> Mounted:
    """Have the image's files in a directory of their own below `where`. Blocks. Raises OSError.

    An image that is another by now gets another directory: running containers keep what they have.
    """
    make_private(where)
    if image.files is not None:
        return _show_files(where, image, image.files)
    if image.module is None:
        raise FileNotFoundError(errno.ENOENT, "the image holds nothing", str(image.reference))
    directory = where / image.module_digest.rpartition(":")[2]
    with contextlib.suppress(FileExistsError):
        directory.mkdir()
    directory.chmod(_DIRECTORY_MODE)
    name = image.reference.repository.rpartition("/")[2]
    file = directory / (name if name.endswith(".wasm") else f"{name}.wasm")
    if not file.exists():
        fresh = directory / f".{file.name}.new"
        fresh.unlink(missing_ok=True)
        try:
            os.link(image.module, fresh)
        except OSError:
            # On another file system, or of another user.
            shutil.copyfile(image.module, fresh)
        fresh.chmod(_FILE_MODE)
        fresh.rename(file)
    return Mounted(directory, read_only=True)


def _show_files(where: Path, image: Image, files: ImageFiles) -> Mounted:
    """They are other names of the store's files, which stay when the store removes its own."""
    directory = where / image.digest.rpartition(":")[2]
    if not directory.exists():
        fresh = where / f".{directory.name}.new"
        if fresh.exists():
            remove_tree(fresh)
        fresh.mkdir()
        copy_tree(files.root, fresh, share=True)
        fresh.chmod(_DIRECTORY_MODE)
        fresh.rename(directory)
    return Mounted(directory, read_only=True)
