"""What a container runs: the module, and the words that it is started with.

It exists because the two depend on each other in an image with files, where the first word names the module,
and do not in a wasm artifact, which is the module. It must not know how either is run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from oci.errors import NotWasmError
from oci.images import Image
from oci.layers.command import ModuleFile, find_module
from oci.layers.unpacked import ImageFiles
from oci.layers.users import NOBODY, Users, read_users
from oci.reference import Reference
from vkubelet.api.containers import Container
from vkubelet.pods.environment import Environment, arguments
from vkubelet.pods.start_error import StartError


@dataclass(frozen=True, slots=True)
class Program:
    """A module by its file and digest, its arguments, argv[0] first, and the users that its image knows."""

    module: Path
    digest: str
    words: tuple[str, ...] = field(repr=False)
    users: Users = NOBODY


async def program(container: Container, image: Image, env: Environment) -> Program:
    """What the container runs. Raises StartError."""
    config = image.config
    if image.files is None:
        own_name = image.reference.repository.rpartition("/")[2]
        words = arguments(container, config.entrypoint, config.cmd, env.declared, own_name)
        if image.module is None:
            raise StartError("CreateContainerError", f"image {image.reference} holds no module")
        return Program(image.module, image.module_digest, words)
    words = arguments(container, config.entrypoint, config.cmd, env.declared, None)
    directory = container.working_dir or config.working_dir
    search = dict(env.variables).get("PATH")
    try:
        found, users = await asyncio.to_thread(_look, image.files, words, directory, search, image.reference)
    except (NotWasmError, OSError) as error:
        raise StartError("RunContainerError", str(error)) from error
    return Program(found.path, found.digest, words, users)


def _look(
    files: ImageFiles, words: Sequence[str], directory: str, search: str | None, reference: Reference
) -> tuple[ModuleFile, Users]:
    return find_module(files, words, directory, search, reference), read_users(files.root)
