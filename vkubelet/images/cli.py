"""The commands `vkubelet inspect` and `vkubelet push`: words to requests, answers to lines.

It exists apart because what it needs is imported only when it is asked for. It must decide nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from oci.credentials import Credentials
    from oci.hosts import Host
    from oci.inspection import Inspection
    from oci.reference import Reference

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
"""As the image specification has them: RFC 6838, section 4.2."""

_INSECURE = click.option("--insecure", is_flag=True, help="Ask the registry over plain HTTP.")
_HOSTS = click.option(
    "--registry-config-dir",
    "config_dir",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    help="A directory of registries' hosts.toml files, as a node's.",
)


@click.command()
@click.argument("image")
@_INSECURE
@_HOSTS
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def inspect(image: str, *, insecure: bool, config_dir: Path | None, as_json: bool) -> None:
    """Tell what IMAGE holds: format, parts, the WebAssembly in it, and whether a node like this runs it.

    IMAGE is a file (./app.wasm) or a reference (registry/app:v1). A private registry is asked with the
    credentials of Docker's configuration (~/.docker/config.json), where `docker login` leaves them.
    """
    from oci.errors import OciError

    with tempfile.TemporaryDirectory(prefix="vkubelet-inspect-") as temporary:
        directory = Path(temporary)
        try:
            found, module = _found(image, directory, config_dir, insecure=insecure)
            refusal: str | None = found.problem
            if module is not None and not refusal:
                refusal = asyncio.run(_refusal(module, found, directory))
        except OciError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.filename or image}: {error.strerror or error}")
    _print(found, refusal, as_json=as_json)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("reference")
@click.option("--annotation", multiple=True, metavar="NAME=VALUE", help="An annotation of the manifest.")
@click.option(
    "--attach",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file that is to refer to the artifact, like a bill of materials; each has its --attach-type.",
)
@click.option("--attach-type", multiple=True, metavar="TYPE", help="Its media type: application/spdx+json.")
@_INSECURE
@_HOSTS
def push(
    file: Path,
    reference: str,
    annotation: tuple[str, ...],
    attach: tuple[Path, ...],
    attach_type: tuple[str, ...],
    *,
    insecure: bool,
    config_dir: Path | None,
) -> None:
    """Push FILE, a WebAssembly module or component, as REFERENCE: an artifact in the CNCF's format.

    Prints what to name in a pod. Credentials are those of Docker's configuration, as for `inspect`.
    """
    from oci.attachment import Attachment
    from oci.errors import OciError
    from oci.push import push_module
    from oci.reference import parse

    annotations = {}
    for text in annotation:
        name, equals, value = text.partition("=")
        if not name or not equals:
            fail(f"--annotation {text!r}: is not NAME=VALUE")
        annotations[name] = value
    if len(attach) != len(attach_type):
        fail(f"--attach is given {len(attach)} times, and --attach-type {len(attach_type)} times")
    for text in attach_type:
        if _MEDIA_TYPE.fullmatch(text) is None:
            fail(f"--attach-type {text!r}: is no media type")
    try:
        target = parse(reference)
        credentials = users_credentials(target)
        digest = push_module(
            file,
            reference,
            insecure=insecure,
            hosts=_hosts(target, config_dir, insecure=insecure),
            annotations=annotations,
            attachments=[Attachment(*pair) for pair in zip(attach, attach_type, strict=True)],
            credentials=credentials,
        )
    except OciError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or file}: {error.strerror or error}")
    click.echo(f"{target}@{digest}")


def _found(
    image: str, directory: Path, config_dir: Path | None, *, insecure: bool
) -> tuple[Inspection, Path | None]:
    """What the image holds, and where its module is now, if it has one. Raises OciError and OSError."""
    from oci.inspection import inspect_file, inspect_image
    from oci.layers.unpacked import Unpacked
    from oci.reference import parse
    from oci.registry import Repository
    from oci.store import Store
    from vkubelet.images.progress import PullProgress

    if image.startswith((".", "/")) or Path(image).is_file():
        return inspect_file(Path(image)), Path(image)
    reference = parse(image)
    store, progress = Store(directory / "images"), PullProgress()
    store.open()
    unpacked = Unpacked(directory / "unpacked")
    unpacked.open()
    hosts = _hosts(reference, config_dir, insecure=insecure)
    repository = Repository(
        reference, insecure=insecure, hosts=hosts, credentials=users_credentials(reference)
    )
    with contextlib.closing(repository):
        try:
            return inspect_image(
                repository, store, unpacked, lambda blob, size: progress(reference, blob, size)
            )
        finally:
            progress.clear()


async def _refusal(module: Path, found: Inspection, directory: Path) -> str | None:
    """Why a node of this version would not run the module; None if it would."""
    from providers.base import ProviderError
    from providers.wasmtime.compile import Compiler

    logging.basicConfig(level=logging.ERROR, format="vkubelet inspect: %(message)s", stream=sys.stderr)
    compiler = Compiler(directory / "compiled")
    try:
        await compiler.prepare(module, found.digest if found.module is None else found.module.digest)
    except ProviderError as error:
        return str(error)
    finally:
        await compiler.close()
    return None


def _hosts(reference: Reference, config_dir: Path | None, *, insecure: bool) -> tuple[Host, ...]:
    """Whom to ask for it. Raises OciError."""
    from oci.registries import Registries

    return Registries((reference.registry,) if insecure else (), config_dir).hosts(reference)


def users_credentials(reference: Reference) -> Credentials | None:
    """The user's own for this registry, where `docker login` left them: in its file, or with its helper."""
    from oci.credential_helper import CredentialHelperError, lookup
    from oci.keyring import KeyringError

    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        found = asyncio.run(lookup(path.read_bytes(), reference))
    except FileNotFoundError:
        return None
    except KeyringError as error:
        fail(f"{path}: {error}")
    except CredentialHelperError as error:
        # What is public needs none; what is not, the registry will tell.
        click.echo(f"vkubelet: going on without credentials: {path}: {error}", err=True)
        return None
    return found[0] if found else None


def _print(found: Inspection, refusal: str | None, *, as_json: bool) -> None:
    from vkubelet.images.show import lines

    if not as_json:
        for line in lines(found, refusal):
            click.echo(line)
        return
    import msgspec

    document: dict[str, Any] = msgspec.to_builtins(found)
    document["runnable"] = refusal is None
    if refusal is not None:
        document["problem"] = refusal
    click.echo(json.dumps(document, indent=2))


def fail(message: str) -> NoReturn:
    """End with one line that says why."""
    click.echo(f"vkubelet: {message}", err=True)
    sys.exit(1)
