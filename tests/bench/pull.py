"""How fast a large module is pulled and verified, against `curl | sha256sum` of the same blob.

Run as `python -m tests.bench.pull [--size MB] [--registry HOST:PORT]`. Without a registry (plain HTTP) a
static one is served by a process of its own, so that its time is not counted as the pull's. Prints both
times, their ratio, and how much the pull's memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.server
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from oci import digests
from oci.artifact import WASM_CONFIG, WASM_LAYER
from oci.images import ImageStore
from oci.manifest import MANIFEST
from oci.push import push_module
from oci.reference import parse


def _serve(module: Path, manifest: bytes, ready: Connection) -> None:
    """One image, at every repository and tag."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            is_manifest = "/manifests/" in self.path
            self.send_response(200)
            self.send_header("Content-Type", MANIFEST if is_manifest else "application/octet-stream")
            self.send_header("Content-Length", str(len(manifest) if is_manifest else module.stat().st_size))
            self.end_headers()
            if is_manifest:
                self.wfile.write(manifest)
            else:
                with module.open("rb") as file:
                    self.connection.sendfile(file)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ready.send(server.server_address[1])
    server.serve_forever()


def _module(path: Path, size: int) -> str:
    """A file of random bytes that begins like a module; its digest."""
    with path.open("wb") as file:
        file.write(b"\0asm\1\0\0\0")
        while file.tell() < size:
            file.write(os.urandom(min(1 << 20, size - file.tell())))
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _manifest(digest: str, size: int) -> bytes:
    config = {"mediaType": WASM_CONFIG, "digest": digests.of(b"{}"), "size": 2}
    layer = {"mediaType": WASM_LAYER, "digest": digest, "size": size}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    ).encode()


def _curl(url: str) -> float:
    began = time.perf_counter()
    subprocess.run(f"curl -sf {url} | sha256sum", shell=True, check=True, stdout=subprocess.DEVNULL)  # noqa: S602
    return time.perf_counter() - began


def _pull(root: Path, registry: str) -> float:
    shutil.rmtree(root, ignore_errors=True)
    os.sync()  # what the last run left to write is not this one's
    store = ImageStore(root, insecure_registries=[registry])
    store.open()
    began = time.perf_counter()
    asyncio.run(store.pull(parse(f"{registry}/bench/large:v1")))
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=200, help="megabytes")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--registry", default="", help="host:port of a registry over plain HTTP")
    parser.add_argument("--directory", default=None, help="where the store is made")
    options = parser.parse_args()
    size = options.size * 1_000_000
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        module = Path(directory) / "module.wasm"
        digest = _module(module, size)
        registry, server = options.registry, None
        if registry:
            push_module(module, f"{registry}/bench/large:v1", insecure=True)
        else:
            here, there = multiprocessing.Pipe()
            server = multiprocessing.get_context("spawn").Process(
                target=_serve, args=(module, _manifest(digest, size), there), daemon=True
            )
            server.start()
            registry = f"127.0.0.1:{here.recv()}"
        url = f"http://{registry}/v2/bench/large/blobs/{digest}"
        root = Path(directory) / "images"
        _curl(url)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pulls, curls = [], []
        for _ in range(options.runs):
            pulls.append(_pull(root, registry))
            curls.append(_curl(url))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if server is not None:
            server.terminate()
            server.join()
    pull, curl = statistics.median(pulls), statistics.median(curls)
    print(
        f"{options.size} MB, median of {options.runs}: pull {pull:.2f} s, curl | sha256sum {curl:.2f} s, "
        f"ratio {pull / curl:.2f}; memory grew by {grown / 1024:.1f} MB"
    )


if __name__ == "__main__":
    main()
