"""Guests of the tests, built from source, and as images in a registry."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from oci.push import push_module

GUESTS = Path(__file__).parents[1] / "guests"
CACHE = Path(__file__).parents[2] / ".cache" / "guests"


def build_guest(name: str) -> Path:
    """`tests/guests/NAME.c` as WebAssembly, compiled once for each version of its source."""
    source = GUESTS / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    target = CACHE / f"{name}-{digest}.wasm"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(".new")
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-Os", "-s"]
        subprocess.run([*command, "-o", str(fresh), str(source)], check=True)
        fresh.replace(target)
    return target


def push_guest(registry: str, name: str, tag: str = "v1") -> str:
    """Push the guest and return its reference."""
    reference = f"{registry}/{name}:{tag}"
    push_module(build_guest(name), reference, insecure=True)
    return reference
