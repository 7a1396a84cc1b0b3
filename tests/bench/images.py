"""What a store of many images costs: to open at a start, and to find an image in that is here.

Run as `python -m tests.bench.images [--images N]`. Prints milliseconds of an open with the index's snapshot,
as a restart has it, and without, microseconds of a look, and how much memory the images take.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from oci import digests
from oci.artifact import ImageConfig
from oci.images import ImageStore
from oci.index import Blob, Single
from oci.reference import Reference, parse

LOOKS = 10_000


def _fill(root: Path, count: int) -> list[Reference]:
    """A store of so many images of one module, each with a tag and a digest."""
    store = ImageStore(root)
    store.open()
    content, found = store._store, []
    content.path(digests.of(b"")).parent.mkdir(exist_ok=True)
    for number in range(count):
        reference = parse(f"registry.example.com/team/app{number}:v1")
        parts = tuple(Blob(digests.of(f"{kind}{number}".encode()), 1) for kind in ("manifest", "module"))
        for part in parts:
            content.path(part.digest).write_bytes(b"x")
        manifest, module = parts
        single = Single(module.digest, 2, ImageConfig(), parts)
        for name in (reference, reference.by_digest(manifest.digest)):
            content.index.write(name, manifest.digest, single)
        found.append(reference)
    return found


def _open(root: Path) -> tuple[ImageStore, float]:
    store = ImageStore(root)
    began = time.perf_counter()
    store.open()
    return store, (time.perf_counter() - began) * 1e3


async def _look(store: ImageStore, references: list[Reference]) -> float:
    began = time.perf_counter()
    for number in range(LOOKS):
        if await store.look(references[number % len(references)]) is None:
            raise AssertionError("an image is not there")
    return (time.perf_counter() - began) / LOOKS * 1e6


def _told(values: Iterable[float]) -> str:
    return f"{statistics.median(values):.0f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "images"
        references = _fill(root, options.images)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        cold, warm = [], []
        for _ in range(options.runs):
            (root / "index.snapshot").unlink(missing_ok=True)
            cold.append(_open(root)[1])
            store, took = _open(root)
            warm.append(took)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        looks = [asyncio.run(_look(store, references)) for _ in range(options.runs)]
    print(
        f"{options.images} images, median of {options.runs}: opened in {_told(warm)} ms, without the index's "
        f"snapshot in {_told(cold)} ms; a look takes {_told(looks)} us; memory grew by {grown / 1024:.1f} MB"
    )


if __name__ == "__main__":
    main()
