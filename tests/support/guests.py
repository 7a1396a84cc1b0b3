"""Guests of the tests, built from source, and as images in a registry."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import components
import tars

from oci.manifest import MANIFEST
from oci.push import push_module

GUESTS = Path(__file__).parents[1] / "guests"
CACHE = Path(__file__).parents[2] / ".cache" / "guests"


def build_guest(name: str) -> Path:
    """`tests/guests/NAME.c` as WebAssembly, compiled once for each version of its source.

    With a `NAME.wat` beside it, it is that component.
    """
    source, world = GUESTS / f"{name}.c", GUESTS / f"{name}.wat"
    parts = [part.read_bytes() for part in (source, world) if part.exists()]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    target = CACHE / f"{name}-{digest}.wasm"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}")  # another process may make it too
        if world.exists():
            components.compile_core(source, fresh)
            fresh.write_bytes(components.component(world.read_text(), fresh.read_bytes()))
        else:
            command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-Os", "-s"]
            subprocess.run([*command, "-o", str(fresh), str(source)], check=True)
        fresh.replace(target)
    return target


def push_guest(registry: str, name: str, tag: str = "v1") -> str:
    """Push the guest and return its reference."""
    reference = f"{registry}/{name}:{tag}"
    push_module(build_guest(name), reference, insecure=True)
    return reference


def push_bytes(
    registry: str,
    name: str,
    content: bytes,
    tag: str = "v1",
    config_type: str = "application/vnd.wasm.config.v0+json",
    layer_type: str = "application/wasm",
) -> str:
    """Push what `push_module` refuses to: an artifact of any media types whose one layer holds `content`.

    Returns the manifest's digest.
    """
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put_blob(registry, name, b"{}", config_type),
        "layers": [put_blob(registry, name, content, layer_type)],
    }
    return put_manifest(registry, name, manifest, tag)


def push_layers(
    registry: str,
    name: str,
    *layers: tuple[str, Iterable[tars.Member]],
    tag: str = "v1",
    platform: str = "wasip1/wasm",
    **config: Any,
) -> str:
    """Push an image with files, as `tars.layered` makes it, and return its reference."""
    manifest = tars.layered(
        lambda data, kind: put_blob(registry, name, data, kind), layers, platform, **config
    )
    put_manifest(registry, name, manifest, tag)
    return f"{registry}/{name}:{tag}"


def put_blob(registry: str, name: str, data: bytes, media_type: str) -> dict[str, Any]:
    """Push a blob; its descriptor."""
    base = f"http://{registry}/v2/{name}"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    location = _send("POST", f"{base}/blobs/uploads/", b"", "").headers["Location"]
    separator = "&" if "?" in location else "?"
    _send("PUT", f"{location}{separator}digest={digest}", data, "application/octet-stream")
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def put_manifest(registry: str, name: str, manifest: dict[str, Any], tag: str) -> str:
    """Push a manifest; its digest."""
    url = f"http://{registry}/v2/{name}/manifests/{tag}"
    answer = _send("PUT", url, json.dumps(manifest).encode(), manifest["mediaType"])
    return str(answer.headers["Docker-Content-Digest"])


def _send(method: str, url: str, body: bytes, kind: str) -> Any:
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  the test's own registry
        answer.read()
        return answer
