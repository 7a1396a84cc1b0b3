"""The samples of `deploy/samples`: a guest as WebAssembly text, and manifests that run it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vkubelet.dev.layout import DevError, deployed

NAMES = ("hello", "deployment", "job", "trap", "missing")
GUESTS = ("hello", "trap")
TAG = "v1"
PLACEHOLDER = "REGISTRY/"
"""No image name can have capitals, so that a manifest that nobody filled in fails and says so."""


def assemble(text: Path) -> bytes:
    """The binary of a module written as text. Raises DevError naming the file and the place in it."""
    import wasmtime  # Here, because `vkubelet run` reads this package for its commands only.

    try:
        return bytes(wasmtime.wat2wasm(text.read_text()))
    except wasmtime.WasmtimeError as error:
        raise DevError(f"{text}: {error}") from error


def push(file: Path, image: str, registry: str) -> str:
    """Push a module (.wasm, or .wat, which is assembled) into the dev registry; returns its reference."""
    from oci.errors import OciError
    from oci.push import push_module

    reference = image if image.startswith(f"{registry}/") else f"{registry}/{image}"
    try:
        with tempfile.TemporaryDirectory(prefix="vkubelet-") as temporary:
            if file.suffix == ".wat":
                binary = Path(temporary) / f"{file.stem}.wasm"
                binary.write_bytes(assemble(file))
                file = binary
            push_module(file, reference, insecure=True)
    except (OSError, OciError) as error:
        raise DevError(f"pushing {reference}: {error}") from error
    return reference


def push_guests(registry: str) -> None:
    """Push the guests that the manifests here run."""
    for guest in GUESTS:
        push(deployed("samples") / f"{guest}.wat", f"{guest}:{TAG}", registry)


def manifest(name: str, registry: str) -> str:
    """A sample's YAML with the registry's address in its image names."""
    return (deployed("samples") / f"{name}.yaml").read_text().replace(PLACEHOLDER, f"{registry}/")
