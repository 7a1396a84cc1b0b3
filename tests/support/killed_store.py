"""A program that does all that a store does, and is killed before its Nth operation on files, for every N.

`python killed_store.py ROOT REGISTRY` runs each life in a process of its own, and after each looks whether
all that is left can be believed, and whether the next life brings everything. It prints how many lives there
were.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from oci import digests
from oci.images import ImageStore
from oci.layers import unpacked
from oci.reference import parse

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock", "os.chmod", "os.link"}


class Death:
    """Comes before the `number`th operation; counts them."""

    def __init__(self, root: Path, number: int) -> None:
        self._root, self._number = str(root), number
        self.count = 0
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in OPERATIONS:
            return
        if event != "fcntl.flock" and not any(self._root in str(argument) for argument in arguments[:2]):
            return
        self.count += 1
        if self.count == self._number:
            os.kill(os.getpid(), signal.SIGKILL)


def in_a_process(work: Callable[[], None]) -> int:
    """What the process ended with: a signal's number is negative."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


async def live(root: Path, registry: str) -> None:
    """Bring everything and remove a part of it."""
    (root / "run").mkdir(exist_ok=True)
    store = ImageStore(root / "images", owner=root / "run", insecure_registries=[registry])
    store.open()
    for name in ("app", "files", "second"):
        await store.pull(parse(f"{registry}/me/{name}:v1"))
    await store.remove_unused(lambda image: not image.reference.repository.endswith("second"))
    await store.release((), {})


async def look(root: Path, registry: str) -> None:
    """See that what is there is whole, and that the rest can be had."""
    store = ImageStore(root / "images", insecure_registries=[registry])
    store.open()
    corrupt = list((root / "images/corrupt").iterdir())
    assert not corrupt, f"set aside: {corrupt}"
    assert not list((root / "images/ingest").iterdir()), "something half written is left"
    for path in (root / "images/blobs").rglob("*"):
        digest = f"{path.parent.name}:{path.name}"
        assert path.is_dir() or digests.matches(digest, path.read_bytes()), f"{path} is damaged"
    for image in store.list():
        for module in (
            [image.module] if image.module else [image.files.root / name for name in image.files.modules]
        ):
            assert digests.of(module.read_bytes()) in image.module_digests
    for name in ("app", "files", "second"):
        reference = parse(f"{registry}/me/{name}:v1")
        image = await store.pull(reference)
        assert store.get(reference) == image, f"{name} is not here"


def main(place: str, registry: str) -> None:
    """Die at every point."""
    # A process that is killed loses nothing of what it has written: a machine would.
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    unpacked._sync = lambda opened: None
    number, deaths = 0, 0
    while True:
        number += 1
        root = Path(place) / str(number)
        root.mkdir()

        def life(root: Path = root, number: int = number) -> None:
            Death(root, number)
            asyncio.run(live(root, registry))

        end = in_a_process(life)
        assert end in (0, -signal.SIGKILL), f"life {number} ended with {end}"
        seen = in_a_process(lambda root=root: asyncio.run(look(root, registry)))  # type: ignore[misc]
        assert seen == 0, f"after {number} operations"
        shutil.rmtree(root)
        if end == 0:
            break
        deaths += 1
    print(deaths)


if __name__ == "__main__":
    main(*sys.argv[1:])
