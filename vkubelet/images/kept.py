"""The commands `vkubelet pull`, `images` and `images prune`: what is in a node's image store.

It exists apart because these need a node's directory, though no agent that runs: a store is shared by
processes, and an agent notices what is brought or removed here. It must decide nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vkubelet.config import Config, ConfigError, load
from vkubelet.images.cli import fail, users_credentials

if TYPE_CHECKING:
    from oci.images import Credentials, Image, ImageStore
    from oci.reference import Reference
    from providers.wasmtime.compile import Compiler
    from vkubelet.images.progress import PullProgress

T = TypeVar("T")


def _node(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which node's store it is: those of `vkubelet run`."""
    command = click.option("--root-dir", metavar="DIRECTORY", help="The node's root-dir.")(command)
    return click.option(
        "--config", "file", type=click.Path(path_type=Path), help="The node's configuration file."
    )(command)


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@_node
@click.option("--insecure-registries", metavar="HOST[:PORT],...", help="Ask these over plain HTTP.")
@click.option("--registry-config-dir", metavar="DIRECTORY", help="Registries' hosts.toml files.")
def pull(images: tuple[str, ...], *, file: Path | None, **flags: str | None) -> None:
    """Pull IMAGEs into this node's store and compile them, so that pods that name them start at once.

    All pods of the node may use them then, whatever their own credentials. Those used here are Docker's
    configuration's, as for `inspect`. An agent that runs on the node need not be restarted.
    """
    from oci.errors import OciError
    from oci.reference import parse

    config = _config(file, flags)
    try:
        wanted = {reference: users_credentials(reference) for reference in map(parse, images)}
    except OciError as error:
        fail(str(error))
    failed = _run(lambda: _pull(config, wanted))
    if failed:
        fail("; ".join(failed))


@click.group(invoke_without_command=True)
@_node
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def images(context: click.Context, /, *, file: Path | None, as_json: bool, **flags: str | None) -> None:
    """List the images in this node's store, and whether the node's containers use them."""
    if context.invoked_subcommand is not None:
        context.obj = (file, flags)
        return
    config = _config(file, flags)
    found = _run(lambda: _list(config))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    from vkubelet.images.show import table

    for line in table(found):
        click.echo(line)


@images.command()
@_node
@click.pass_context
def prune(context: click.Context, /, *, file: Path | None, **flags: str | None) -> None:
    """Remove the images that no container of this node uses, with what was compiled of them."""
    from vkubelet.images.show import size

    of_group, group_flags = context.obj
    config = _config(file or of_group, group_flags | {name: text for name, text in flags.items() if text})
    removed = _run(lambda: _prune(config))
    for image in removed:
        click.echo(f"removed {image.names[-1]}")
    click.echo(f"{size(sum(image.size for image in removed))} freed")


def _config(file: Path | None, flags: dict[str, str | None]) -> Config:
    try:
        return load({name: text for name, text in flags.items() if text}, os.environ, file)
    except ConfigError as error:
        fail(str(error))


def _run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Do it, or end with the one line that says why not."""
    from oci.errors import OciError
    from oci.signing.errors import PolicyError
    from providers.base import ProviderError

    logging.basicConfig(level=logging.WARNING, format="vkubelet: %(message)s", stream=sys.stderr)
    try:
        return asyncio.run(work())
    except (OciError, PolicyError, ProviderError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'image store'}: {error.strerror or error}")


async def _pull(config: Config, wanted: dict[Reference, Credentials | None]) -> list[str]:
    """Pull and compile all of them; what failed."""
    from providers.wasmtime.compile import Compiler
    from vkubelet.images.progress import PullProgress

    progress = PullProgress() if sys.stderr.isatty() else None
    store = await _store(config, config.image_policy, progress)
    compiler = Compiler(Path(config.root_dir) / "compiled")
    try:
        pulls = [_pull_one(config, store, compiler, reference, key) for reference, key in wanted.items()]
        ends = await asyncio.gather(*pulls)
    finally:
        await compiler.close()
        if progress is not None:
            progress.clear()
    return [text for text in ends if text]


async def _pull_one(
    config: Config,
    store: ImageStore,
    compiler: Compiler,
    reference: Reference,
    credentials: Credentials | None,
) -> str:
    """Why it failed, or nothing."""
    from oci.errors import OciError
    from providers.base import ProviderError
    from vkubelet.pods.images.access import AccessFiles

    try:
        image = await store.pull(reference, credentials=credentials)
        access = AccessFiles(Path(config.root_dir) / "image-access")
        access.allow(image.digest, reference.full_repository, None)
        module = await asyncio.to_thread(_module, image)
        if module is not None:
            await compiler.prepare(*module)
    except OciError as error:
        return str(error)
    except ProviderError as error:
        return f"{reference}: {error}"
    click.echo(reference.by_digest(image.digest).name)
    return ""


def _module(image: Image) -> tuple[Path, str] | None:
    """What a container of the image runs unless its pod says otherwise, if that is WebAssembly."""
    from oci.errors import NotWasmError
    from oci.layers.command import find_module

    if image.module is not None:
        return image.module, image.module_digest
    if image.files is None:
        return None
    config = image.config
    with contextlib.suppress(NotWasmError):
        found = find_module(image.files, config.command, config.working_dir, config.path, image.reference)
        return found.path, found.digest
    return None


async def _list(config: Config) -> list[dict[str, Any]]:
    store = await _store(config)
    pulled, held = store.pulled(), await store.held_by_others()
    return [
        {
            "names": list(image.names),
            "digest": image.digest,
            "size": image.size,
            "pulled": datetime.datetime.fromtimestamp(int(pulled[image.digest]), datetime.UTC).isoformat(),
            "inUse": image.digest in held,
        }
        for image in sorted(store.list(), key=lambda image: image.names[-1])
    ]


async def _prune(config: Config) -> Sequence[Image]:
    from oci.known import orphaned_modules
    from providers.wasmtime.compile import Compiler
    from vkubelet.pods.images.access import AccessFiles

    root = Path(config.root_dir)
    store = await _store(config)
    removed = await store.remove_unused(lambda _: False)
    left = store.list()
    AccessFiles(root / "image-access").keep_only({image.digest for image in left})
    compiler = Compiler(root / "compiled")
    for digest in orphaned_modules(removed, left):
        await compiler.discard(digest)
    return removed


async def _store(
    config: Config, policy: Path | None = None, progress: PullProgress | None = None
) -> ImageStore:
    """The node's, open. Raises OSError and PolicyError."""
    from vkubelet.images.store import image_store

    root = Path(config.root_dir)
    await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True, mode=0o700)
    store = image_store(config, policy=policy, progress=progress)
    await asyncio.to_thread(store.open)
    return store
