"""What is removed from a node's disk: real images in a real store; pods and disk say what they like."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from oci import digests
from oci.images import Image, ImageStore
from oci.reference import parse
from providers.base import ProviderError
from vkubelet import telemetry
from vkubelet.api.containers import Container
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.api.volumes import ImageVolumeSource, Volume
from vkubelet.pods.garbage import Garbage
from vkubelet.pods.images.access import AccessFiles
from vkubelet.pods.images.collection import Policy
from vkubelet.pods.inventory import ContainerEntry, PodEntry
from vkubelet.pods.machine import FileSystemUsage

NEVER = Policy(100, 80, 0, 0)
RULES = Policy(85, 80, 0, 0)


@dataclasses.dataclass
class Usage:
    file_system: FileSystemUsage


class World:
    """A node whose pods, disk and provider are as a test says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "run"
        self.state.mkdir()
        self.entries: list[PodEntry] = []
        self.unclaimed: list[str] = []
        self.events: list[tuple[str, str, str]] = []
        self.discarded: list[str] = []
        self.capacity, self.available = 1000, 1000
        self.broken: Exception | None = None
        self.access = AccessFiles(directory / "access")
        self.images = self.store()

    def store(self) -> ImageStore:
        images = ImageStore(self.directory / "images", owner=self.state)
        images.open()
        return images

    def garbage(self, policy: Policy = RULES) -> Garbage:
        return Garbage(self, self.images, cast("Any", self), self.access, cast("Any", self), policy)

    async def image(self, name: str, ago: float = 1000.0, content: bytes = b"") -> Image:
        """One that came so many seconds ago."""
        file = self.directory / "file.wasm"
        text = name.encode() + content
        file.write_bytes(b"\0asm\1\0\0\0" + b"\0" + bytes([len(text) + 1, len(text)]) + text)
        image = await self.images.add(file, parse(f"files.local/{name}:v1"))
        await self.images.release((), {})
        for entry in image.names:
            path = self.images._store.index.path(parse(entry))
            changed = path.stat().st_mtime - ago
            os.utime(path, (changed, changed))
        return image

    def here(self) -> set[str]:
        return {image.reference.repository for image in self.store().list()}

    # Collectable, Provider and Machine.

    def pods(self) -> list[PodEntry]:
        return self.entries

    def unclaimed_images(self) -> list[str]:
        return self.unclaimed

    async def collect(self) -> None:
        if self.broken:
            raise self.broken

    async def discard(self, digest: str) -> None:
        self.discarded.append(digest)

    def usage(self) -> Usage:
        if self.broken:
            raise self.broken
        return Usage(FileSystemUsage(self.capacity, self.available, 0, 0, 0))

    def event(self, kind: str, reason: str, message: str) -> None:
        self.events.append((kind, reason, message))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def entry(*running: Image, asks: Sequence[str] = (), mounts: str = "") -> PodEntry:
    specs = [Container(name=f"c{number}", image=text) for number, text in enumerate(asks)]
    volumes = [Volume(name="v", image=ImageVolumeSource(reference=mounts))] if mounts else None
    pod = Pod(metadata=ObjectMeta(name="p"), spec=PodSpec(containers=specs, volumes=volumes))
    return PodEntry(
        pod,
        0.0,
        tuple(
            ContainerEntry(Container(name="x"), "id", image.names[0], 0, running=False) for image in running
        ),
    )


def collected(reason: str) -> float:
    samples = telemetry.IMAGES_COLLECTED.family().samples
    return next((one.value for one in samples if reason in str(one.labels)), 0)


async def test_what_a_pod_has_or_wants_stays(world: World) -> None:
    running, asked, mounted, unclaimed, unused = [
        await world.image(name) for name in ("running", "asked", "mounted", "unclaimed", "unused")
    ]
    world.entries = [
        entry(running, asks=["files.local/asked:v1", "NO NAME"], mounts="files.local/mounted:v1")
    ]
    world.unclaimed = [unclaimed.names[0]]
    world.access.allow(asked.digest, "files.local/asked", None)
    world.access.allow(unused.digest, "files.local/unused", None)
    before = collected("space")
    await world.garbage().collect()
    assert world.here() == {"running", "asked", "mounted", "unclaimed"}
    assert world.discarded == [unused.module_digest]
    assert [path.name for path in (world.directory / "access").iterdir()] == [asked.digest.replace(":", "-")]
    assert collected("space") == before + 1
    assert mounted.module is not None
    # No other process removes them either.
    other = ImageStore(world.directory / "images")
    other.open()
    assert await other.remove_unused(lambda _: False) == []


async def test_compiled_code_stays_while_another_image_has_its_module(world: World) -> None:
    first = await world.image("first")
    module = world.directory / "file.wasm"
    second = await world.images.add(module, parse("files.local/second:v1"))
    assert first.module_digest == second.module_digest == digests.of(module.read_bytes())
    assert first.digest == second.digest  # the same file makes the same artifact
    world.entries = [entry(asks=["files.local/second:v1"])]
    await world.garbage().collect()
    assert world.discarded == []


async def test_a_disk_below_the_threshold_keeps_all(world: World) -> None:
    await world.image("unused")
    world.available = 160
    await world.garbage().look()
    assert world.here() == {"unused"}
    assert world.events == []


async def test_a_full_disk_loses_what_was_used_longest_ago(world: World) -> None:
    garbage = world.garbage()
    first = await world.image("first")
    await world.image("second")
    world.entries = [entry(first)]
    await garbage.look()  # first is in use, and then it is not
    world.entries = []
    world.capacity = first.size * 1000
    world.available = world.capacity * 20 // 100 - first.size  # 81 % in use
    rules = Policy(81, 80, 0, 0)
    # Another agent remembers when they were used.
    world.images = world.store()
    await world.garbage(rules).look()
    assert world.here() == {"first"}
    assert world.events == []


async def test_what_is_not_enough_is_told(world: World) -> None:
    await world.image("unused")
    used = await world.image("used")
    world.entries = [entry(used)]
    world.capacity, world.available = 1 << 20, 0
    garbage = world.garbage()
    await garbage.look()
    assert world.here() == {"used"}
    ((kind, reason, text),) = world.events
    assert (kind, reason) == ("Warning", "FreeDiskSpaceFailed")
    assert text.startswith(
        "Insufficient free disk space on the node's image filesystem (100% of 1.0 MiB used)"
    )
    world.events.clear()
    await garbage.look()
    assert [reason for _, reason, _ in world.events] == ["FreeDiskSpaceFailed", "ImageGCFailed"]
    assert "freed 0 bytes" in world.events[1][2]


async def test_an_image_of_the_maximum_age_goes(world: World) -> None:
    await world.image("old")
    used = await world.image("used")
    world.entries = [entry(used)]
    garbage = world.garbage(Policy(100, 80, 0, 500))
    before = collected("age")
    await garbage.look()
    assert world.here() == {"old", "used"}  # when it was used last is not known: as long as this agent runs
    garbage._began -= 1000
    await garbage.look()
    assert world.here() == {"used"}
    assert collected("age") == before + 1


async def test_where_it_is_off_uses_are_noted(world: World) -> None:
    used = await world.image("used")
    await world.image("unused")
    world.entries, world.available = [entry(used)], 0
    await world.garbage(NEVER).look()
    assert world.here() == {"used", "unused"}
    assert list(world.store().last_used()) == [used.digest]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ProviderError("no")])
async def test_failures_are_told_when_they_repeat(world: World, error: Exception) -> None:
    garbage = world.garbage()
    world.broken = error
    await garbage.look()
    assert world.events == []
    await garbage.look()
    assert world.events == [("Warning", "ImageGCFailed", str(error))]
    world.broken = None
    await garbage.look()
    world.broken = error
    await garbage.look()
    assert len(world.events) == 1


async def test_a_disk_that_is_none(world: World) -> None:
    world.capacity = 0
    garbage = world.garbage()
    await garbage.look()
    await garbage.look()
    text = "invalid capacity 0 on image filesystem"
    assert [event[1:] for event in world.events] == [
        ("InvalidDiskCapacity", text), ("InvalidDiskCapacity", text), ("ImageGCFailed", text),
    ]  # fmt: skip


async def test_what_another_process_brought_is_seen_and_removed(world: World) -> None:
    other = World.__new__(World)
    other.directory = world.directory
    other.images = ImageStore(world.directory / "images")
    other.images.open()
    await World.image(other, "brought")
    assert world.images.list() == []
    await world.garbage().collect()
    assert world.here() == set()
