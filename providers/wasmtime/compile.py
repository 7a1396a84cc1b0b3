"""Compiling ahead of time, and the cache of what was compiled.

It exists so that a module is compiled once on a node, whoever asks and however often, and so that only
code which this node itself has compiled is ever run: compiled code is trusted like a program. It must not
know how a module is compiled (`compile_worker`, in a process of its own) or run.

    CACHE_DIR/NAME.cwasm    compiled code; NAME is digest, wasmtime's version, engine settings, processor
    CACHE_DIR/NAME.json     its kind, size and SHA-256, written after it: without it there is no code
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import re
import stat
import sys
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from providers import programs
from providers.base import Artifact, DamagedModuleError, InvalidModuleError, ModuleKind, ProviderError
from providers.removal import remove
from providers.wasmtime import engine

_log = logging.getLogger(__name__)

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})|sha512:([0-9a-f]{128})")
_AT_ONCE = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What compiling one module may take: time on the clock, processor time, address space."""

    seconds: float = 900
    cpu_seconds: int = 600
    memory_bytes: int = 8 * 1024**3


@dataclasses.dataclass(frozen=True, slots=True)
class _Verified:
    """A file whose content was compared with its hash, as stat(2) tells it from another."""

    size: int
    mtime_ns: int
    inode: int
    kind: ModuleKind


class Compiler:
    """Prepares modules, each once, a few at a time."""

    def __init__(self, cache_dir: Path, limits: Limits | None = None) -> None:
        self._cache = cache_dir
        self._limits = limits or Limits()
        self._running: dict[str, asyncio.Task[Artifact]] = {}
        self._ending: set[asyncio.Task[Artifact]] = set()
        self._waiting: dict[str, int] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._verified: dict[Path, _Verified] = {}

    async def prepare(self, module: Path, digest: str) -> Artifact:
        """See Provider.prepare. Compilation goes on as long as anybody waits for it."""
        path = self._path(digest)
        known = self._known(path)
        if known is not None:
            return known
        task = self._running.get(digest)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._prepare(module, digest, path))
            self._running[digest] = task
            task.add_done_callback(lambda done: self._forget(digest, done))
        self._waiting[digest] = self._waiting.get(digest, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[digest] -= 1
            if self._waiting[digest] == 0:
                del self._waiting[digest]
                self._abandon(digest, task)

    async def discard(self, digest: str) -> None:
        """Remove what was compiled of a module, for every engine. Raises ProviderError.

        What is being compiled now stays: somebody waits for it.
        """
        if digest in self._running:
            return
        path = self._path(digest)
        self._verified.pop(path, None)
        try:
            await asyncio.to_thread(_remove, self._cache, path.name.partition("-")[0])
        except OSError as error:
            raise ProviderError(f"the cache of compiled code: {error}") from error

    def _abandon(self, digest: str, task: asyncio.Task[Artifact]) -> None:
        """End what nobody waits for. It ends in its own time: who asks now must not come to wait for it."""
        if self._running.get(digest) is task:
            del self._running[digest]
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()

    def _forget(self, digest: str, done: asyncio.Task[Artifact]) -> None:
        if self._running.get(digest) is done:
            del self._running[digest]
        if not done.cancelled():
            done.exception()  # was told to those who waited, if any still did

    async def close(self) -> None:
        """End all compilations."""
        running = [*self._running.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, *self._ending, return_exceptions=True)

    @functools.lru_cache(maxsize=256)  # noqa: B019  a node has one
    def _path(self, digest: str) -> Path:
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise ProviderError(f"{digest!r} is no digest")
        name = f"{match[1] or match[2]}-{engine.version()}-{engine.settings_hash()}-{engine.host_hash()}"
        return Path(f"{self._cache}/{name}.cwasm")

    def _known(self, path: Path) -> Artifact | None:
        """What was verified and has not changed since; costs one stat."""
        verified = self._verified.get(path)
        if verified is None:
            return None
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        if (found.st_size, found.st_mtime_ns, found.st_ino) != (
            verified.size,
            verified.mtime_ns,
            verified.inode,
        ):
            return None
        return Artifact(path, verified.kind)

    async def _prepare(self, module: Path, digest: str, path: Path) -> Artifact:
        try:
            artifact = await asyncio.to_thread(self._verify, path)
            if artifact is not None:
                return artifact
            async with self._slots:
                await asyncio.to_thread(self._make_directory)
                return await self._compile(module, digest, path)
        except OSError as error:
            raise ProviderError(f"the cache of compiled code: {error}") from error

    def _make_directory(self) -> None:
        self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._cache.chmod(0o700)

    def _verify(self, path: Path) -> Artifact | None:
        """The cached code, if it is whole and our own; what is not is set aside."""
        facts = path.with_suffix(".json")
        try:
            expected = json.loads(facts.read_bytes())
            kind = ModuleKind(expected["kind"])
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, IsADirectoryError) as error:
            self._set_aside(path, f"{facts.name}: {error}")
            return None
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            self._set_aside(path, "it belongs to, or can be written by, others")
            return None
        if digest != expected.get("sha256"):
            self._set_aside(path, "its content is not what was compiled")
            return None
        self._verified[path] = _Verified(found.st_size, found.st_mtime_ns, found.st_ino, kind)
        return Artifact(path, kind)

    def _set_aside(self, path: Path, reason: str) -> None:
        aside = path.with_suffix(f".corrupt-{uuid.uuid4().hex}")
        _log.error("compiled code %s is set aside as %s: %s", path.name, aside.name, reason)
        with contextlib.suppress(FileNotFoundError):
            path.with_suffix(".json").rename(aside.with_suffix(f"{aside.suffix}.json"))
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)

    async def _compile(self, module: Path, digest: str, path: Path) -> Artifact:
        temporary = path.with_suffix(f".new-{uuid.uuid4().hex}")
        try:
            result = await self._work(module, digest, temporary)
            if "damaged" in result:
                found = result["damaged"]
                raise DamagedModuleError(f"{module} is damaged: it is {found} instead of {digest}")
            if "invalid" in result:
                raise InvalidModuleError(result["invalid"])
            if "error" in result:
                raise ProviderError(f"compiling the module: {result['error']}")
            await _to_its_end(asyncio.to_thread(self._keep, temporary, path, result["kind"]))
        finally:
            temporary.unlink(missing_ok=True)
        artifact = await asyncio.to_thread(self._verify, path)
        if artifact is None:
            raise ProviderError("compiled code vanished from the cache")
        return artifact

    def _keep(self, temporary: Path, path: Path, kind: str) -> None:
        with temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        facts = path.with_suffix(".json")
        written = facts.with_suffix(f".facts-{uuid.uuid4().hex}")
        try:
            with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(json.dumps({"kind": kind, "sha256": digest}).encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            written.rename(facts)
        finally:
            written.unlink(missing_ok=True)
        directory = os.open(self._cache, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    async def _work(self, module: Path, digest: str, output: Path) -> dict[str, str]:
        """Run the worker to its end, or to its limits."""
        limits = self._limits
        creating = asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "providers.wasmtime.compile_worker", str(module), digest),
            *(str(output), str(limits.cpu_seconds), str(limits.memory_bytes)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            ended = await programs.run(creating, limits.seconds)
        except TimeoutError as error:
            raise ProviderError(f"compiling the module took more than {limits.seconds:g} s") from error
        except OSError as error:
            raise ProviderError(f"the compiler cannot be run: {error}") from error
        try:
            result = json.loads(ended.output)
        except ValueError as error:
            last = ended.errors.decode(errors="replace").strip().splitlines()[-1:]
            detail = f": {last[0]}" if last else ""
            raise ProviderError(f"the compiler ended with code {ended.code}{detail}") from error
        return {str(key): str(value) for key, value in result.items()}


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work in a thread, which no cancellation ends: who cancels waits until its files are right."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    finally:
        await asyncio.wait({task})


def _remove(directory: Path, name: str) -> None:
    """All but what another process is compiling now; the facts first, without which there is no code."""
    for kind in ("json", "cwasm", "corrupt-*"):
        for path in directory.glob(f"{name}-*.{kind}"):
            remove(path)
