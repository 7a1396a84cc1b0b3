"""Building a Go program: once for each state of its sources, with visible progress.

What is built is cached under a hash of everything that it depends on. It is built to a temporary name and
renamed, under a lock, so that neither a kill nor a second builder leaves or takes half of it. It must not
know what the program is for.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from vkubelet.dev.layout import DevError
from vkubelet.dev.process import tail
from vkubelet.dev.report import Advance, Report
from vkubelet.dev.toolchain import Toolchain

BUILD_TIMEOUT = 3600.0
"""Seconds; a cold build takes six minutes on two cores, and slow networks and machines are no error."""

Run = Callable[..., None]
"""Runs `go` with arguments, in the directory `cwd`."""


@dataclass(frozen=True)
class Program:
    """A Go program. `title` is what people call it, `name` its directory in the cache and its files' prefix.

    `announcement` is said before a build. `kept` is how many results stay in the cache. `target` are the
    variables that name a system which is not this one. `prepared` gives the directory to build in, where that
    is not the sources' own. `more` are directories of other modules that it is built from. `package` is what
    is built, which may be of a module that the sources require. `finished` makes the program's file of what
    the compiler wrote. `version` names what these functions do.
    """

    name: str
    title: str
    announcement: str
    sources: Path
    flags: tuple[str, ...]
    kept: int
    target: Mapping[str, str] = field(default_factory=dict)
    prepared: Callable[[Path, Run], AbstractContextManager[Path]] | None = None
    more: tuple[Path, ...] = ()
    package: str = "."
    finished: Callable[[bytes], bytes] | None = None
    version: str = ""


def built(program: Program, go: Toolchain, cache: Path, report: Report) -> Path:
    """The program's file, built if its sources or the toolchain changed. Raises DevError."""
    directory = cache / program.name
    binary = directory / f"{program.name}-{identity(program, go)}"
    if not binary.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with _only_builder(directory / "lock", program, report):
            if not binary.exists():
                _build(program, go, binary, report)
                _prune(program, directory, binary)
    os.utime(binary)
    return binary


def identity(program: Program, go: Toolchain) -> str:
    """A hash of all that the program's file depends on."""
    target = [f"{name}={value}" for name, value in sorted(program.target.items())]
    more = [key(sources, go, []) for sources in program.more]
    package = [] if program.package == "." else [program.package]
    version = [program.version] if program.version else []
    return key(program.sources, go, [*program.flags, *target, *more, *package, *version])


def required(module: str, pattern: str) -> str:
    """What a line of go.mod says, by a pattern with one group."""
    match = re.search(pattern, module, re.MULTILINE)
    if match is None:
        raise DevError(f"go.mod has no line {pattern}")
    return match[1]


def key(sources: Path, go: Toolchain, flags: list[str]) -> str:
    """A hash of what a build depends on: each source file, the toolchain's version, target and flags."""
    digest = hashlib.sha256()
    parts = [go.version, go.target, *flags]
    for file in sorted(sources.rglob("*")):
        if file.suffix == ".go" or file.name in {"go.mod", "go.sum"}:
            parts += [str(file.relative_to(sources)), file.read_text()]
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()[:16]


@contextmanager
def _only_builder(lock: Path, program: Program, report: Report) -> Iterator[None]:
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.step(f"Another process is building {program.title}; waiting for it.")
            # Bounded by the builder's own deadline; the lock goes with its process.
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(program: Program, go: Toolchain, binary: Path, report: Report) -> None:
    log = binary.parent / "build.log"
    temporary = binary.parent / f".{binary.name}.{os.getpid()}"
    environment = {**go.environment, "CGO_ENABLED": "0", **program.target}
    report.step(program.announcement)
    try:
        with log.open("w") as output:

            def run(*arguments: str, cwd: Path) -> None:
                subprocess.run(
                    [go.go, *arguments],
                    cwd=cwd,
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    check=True,
                    timeout=BUILD_TIMEOUT,
                )

            report.step("Looking for what is to be compiled; the modules are fetched if need be.")
            with _directory(program, run) as sources:
                listing = [
                    go.go,
                    "list",
                    "-deps",
                    "-f",
                    "{{if .Stale}}{{.ImportPath}}{{end}}",
                    *program.flags,
                    program.package,
                ]
                packages = _stale_packages(listing, environment, sources, output)
                with report.bar("Compiling packages", packages) as advance:
                    command = [go.go, "build", "-v", *program.flags, f"-o={temporary}", program.package]
                    _compile(command, environment, sources, output, lambda done: advance(min(done, packages)))
        if program.finished is not None:
            temporary.write_bytes(program.finished(temporary.read_bytes()))
        temporary.replace(binary)
    except subprocess.CalledProcessError as error:
        raise DevError(f"building {program.title} failed; all of it is in {log}\n{tail(log)}") from error
    except subprocess.TimeoutExpired as error:
        raise DevError(f"{program.title} was not built within {error.timeout:.0f} s; see {log}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _directory(program: Program, run: Run) -> Iterator[Path]:
    if program.prepared is None:
        yield program.sources
        return
    with program.prepared(program.sources, run) as directory:
        yield directory


def _stale_packages(command: list[str], environment: dict[str, str], sources: Path, output: IO[str]) -> int:
    """How many packages `go build -v` is going to name."""
    listed = subprocess.run(
        command,
        cwd=sources,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=output,
        text=True,
        check=True,
        timeout=BUILD_TIMEOUT,
    )
    return len(listed.stdout.split())


def _compile(
    command: list[str], environment: dict[str, str], sources: Path, output: IO[str], advance: Advance
) -> None:
    """Run `go build -v`, which names each package on a line of its own when it is compiled."""
    running = subprocess.Popen(
        command,
        cwd=sources,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    overdue = threading.Timer(BUILD_TIMEOUT, running.kill)
    overdue.start()
    try:
        with running:
            for done, line in enumerate(running.stderr or (), start=1):
                output.write(line)
                advance(done)
    except BaseException:
        running.kill()
        raise
    finally:
        overdue.cancel()
    if running.returncode != 0:
        output.write(f"go build ended with {running.returncode}\n")
        raise subprocess.CalledProcessError(running.returncode, command)


def _prune(program: Program, directory: Path, current: Path) -> None:
    """Drop all but the results used last. One that still runs keeps its file's content until it ends."""
    found = sorted(directory.glob(f"{program.name}-*"), key=lambda file: file.stat().st_mtime, reverse=True)
    for binary in [file for file in found if file != current][program.kept - 1 :]:
        binary.unlink()
