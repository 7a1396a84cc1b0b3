"""A real directory of manifests, followed by what the kernel tells of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from vkubelet import inotify
from vkubelet.pods.static import watch
from vkubelet.pods.static.watch import ManifestWatcher

POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {{name: {}}}\n"
    "spec: {{containers: [{{name: main, image: 'a/b:{}'}}]}}\n"
)


class Seen:
    """What a watcher told, and a way to wait for it."""

    def __init__(self) -> None:
        self.pods: dict[str, str] | None = None
        self.complaints: list[str] = []
        self.looks = 0
        self._told = asyncio.Event()

    def update(self, manifests) -> None:
        self.pods = {made.pod.metadata.name: made.pod.spec.containers[0].image for made in manifests}
        self.looks += 1
        self._told.set()

    def complain(self, text: str) -> None:
        self.complaints.append(text)
        self._told.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._told.clear()
                await self._told.wait()

    async def until_pods(self, **expected: str) -> None:
        wanted = {f"{name}-n": f"a/b:{tag}" for name, tag in expected.items()}
        await self.until(lambda: self.pods == wanted)


@contextlib.asynccontextmanager
async def watched(path: Path) -> AsyncIterator[Seen]:
    seen = Seen()
    watcher = ManifestWatcher(path, "n", update=seen.update, complain=seen.complain)
    running = asyncio.create_task(watcher.run())
    try:
        async with asyncio.timeout(20):
            await watcher.synced.wait()
        yield seen
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_files_come_change_and_go(tmp_path):
    (tmp_path / "a.yaml").write_text(POD.format("a", 1))
    async with watched(tmp_path) as seen:
        await seen.until_pods(a="1")
        (tmp_path / "b.yaml").write_text(POD.format("b", 1))
        await seen.until_pods(a="1", b="1")
        (tmp_path / "new").write_text("")
        (tmp_path / ".a.tmp").write_text(POD.format("a", 2))
        (tmp_path / ".a.tmp").rename(tmp_path / "a.yaml")
        await seen.until_pods(a="2", b="1")
        (tmp_path / "b.yaml").rename(tmp_path.parent / "elsewhere.yaml")
        await seen.until_pods(a="2")
        (tmp_path / "a.yaml").unlink()
        await seen.until_pods()


async def test_a_directory_is_waited_for_and_may_go_and_come_back(tmp_path):
    path = tmp_path / "not" / "yet" / "there"
    async with watched(path) as seen:
        assert seen.pods == {}
        path.parent.parent.mkdir()
        path.parent.mkdir()
        path.mkdir()
        (path / "a.yaml").write_text(POD.format("a", 1))
        await seen.until_pods(a="1")
        path.rename(tmp_path / "away")
        await seen.until_pods()
        (tmp_path / "away").rename(path)
        await seen.until_pods(a="1")


async def test_what_cannot_be_watched_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "UNWATCHED", 0.05)
    text = "no inotify instance left"

    def lacking(watch: inotify.Watch) -> bool:
        raise OSError(errno.EMFILE, text, str(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr(inotify.Watch, "arm", lacking)
        async with watched(tmp_path) as seen:
            (tmp_path / "a.yaml").write_text(POD.format("a", 1))
            await seen.until_pods(a="1")
            assert len(seen.complaints) == 1
            assert seen.complaints[0].endswith(f"cannot be watched: [Errno 24] {text}: '{tmp_path}'")
            patch.undo()
            (tmp_path / "a.yaml").write_text(POD.format("a", 2))
            await seen.until_pods(a="2")


async def test_a_single_file_is_followed_too(tmp_path):
    file = tmp_path / "one.yaml"
    async with watched(file) as seen:
        file.write_text(POD.format("a", 1))
        await seen.until_pods(a="1")
        file.write_text(POD.format("a", 2))
        await seen.until_pods(a="2")
        file.unlink()
        await seen.until_pods()


async def test_a_file_that_breaks_keeps_its_pod_and_is_complained_of_once(tmp_path):
    broken, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    broken.write_text(POD.format("a", 1))
    async with watched(tmp_path) as seen:
        broken.write_text("a: [")
        await seen.until(lambda: len(seen.complaints) == 1)
        assert seen.complaints[0].startswith(f"{broken}: line 2: ")
        other.write_text(POD.format("b", 1))
        await seen.until_pods(a="1", b="1")
        assert len(seen.complaints) == 1
        broken.write_text("b: 1\nb: 2\n")
        await seen.until(lambda: len(seen.complaints) == 2)
        broken.write_text(POD.format("a", 2))
        await seen.until_pods(a="2", b="1")
        broken.write_text("a: [")
        await seen.until(lambda: len(seen.complaints) == 3)
        broken.unlink()
        await seen.until_pods(b="1")


async def test_a_broken_files_pod_may_move_to_another_file(tmp_path):
    (tmp_path / "a.yaml").write_text(POD.format("a", 1))
    async with watched(tmp_path) as seen:
        (tmp_path / "a.yaml").write_text("a: [")
        await seen.until(lambda: len(seen.complaints) == 1)
        (tmp_path / "b.yaml").write_text(POD.format("a", 2))
        await seen.until_pods(a="2")


async def test_what_may_not_be_read_is_told_and_read_as_soon_as_it_may(tmp_path, monkeypatch):
    path = tmp_path / "pods"
    path.mkdir()
    (path / "a.yaml").write_text(POD.format("a", 1))
    path.chmod(0)

    def refused(real, where: Path):
        """As for whoever is not root."""

        def may(*arguments):
            if where in arguments and not path.stat().st_mode & 0o400:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(*arguments)

        return may

    monkeypatch.setattr(watch, "read_all", refused(watch.read_all, path))
    monkeypatch.setattr(inotify.DirectoryWatcher, "add", refused(inotify.DirectoryWatcher.add, path))
    monkeypatch.setattr(watch.os, "access", lambda *_: bool(path.stat().st_mode & 0o400))
    async with watched(path) as seen:
        await seen.until(lambda: len(seen.complaints) == 1)
        assert seen.complaints[0] == f"cannot read static pods from {path}: Permission denied"
        path.chmod(0o700)
        await seen.until_pods(a="1")


async def test_a_burst_of_changes_costs_few_looks(tmp_path):
    async with watched(tmp_path) as seen:
        for number in range(300):
            (tmp_path / f"{number}.yaml").write_text(POD.format(f"p{number}", 1))
        await seen.until(lambda: seen.pods is not None and len(seen.pods) == 300)
        assert seen.looks < 30


async def test_silence_costs_nothing(tmp_path):
    async with watched(tmp_path) as seen:
        threads = threading.active_count()
        before = seen.looks
        await asyncio.sleep(0.5)
        assert seen.looks == before
        assert threading.active_count() == threads
