"""Guests of the tests, built from source, and as images in a registry."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import components

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
    base = f"http://{registry}/v2/{name}"
    blobs = {"config": (b"{}", config_type), "layer": (content, layer_type)}
    described = {}
    for part, (blob, media_type) in blobs.items():
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        described[part] = {"mediaType": media_type, "digest": digest, "size": len(blob)}
        location = _send("POST", f"{base}/blobs/uploads/", b"", "").headers["Location"]
        separator = "&" if "?" in location else "?"
        _send("PUT", f"{location}{separator}digest={digest}", blob, "application/octet-stream")
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": described["config"],
        "layers": [described["layer"]],
    }
    answer = _send("PUT", f"{base}/manifests/{tag}", json.dumps(manifest).encode(), kind)
    return str(answer.headers["Docker-Content-Digest"])


def _send(method: str, url: str, body: bytes, kind: str) -> Any:
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  the test's own registry
        answer.read()
        return answer
