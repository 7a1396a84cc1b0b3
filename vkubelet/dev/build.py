"""Building the cluster's one Go program: once for each state of its sources, with visible progress.

The binary is cached under a hash of everything that it depends on. It is built to a temporary name and
renamed, under a lock, so that neither a kill nor a second builder leaves or takes half a binary.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vkubelet.dev.layout import DevError, deployed
from vkubelet.dev.process import tail
from vkubelet.dev.report import Advance, Report
from vkubelet.dev.toolchain import Toolchain, toolchain

BUILD_TIMEOUT = 3600.0
"""Seconds; a cold build takes six minutes on two cores, and slow networks and machines are no error."""
KEPT = 3
"""Binaries of 140 MB kept in the cache: enough to go back and forth between branches."""


def cluster_binary(cache: Path, report: Report) -> Path:
    """The cluster's program, built if its sources or the toolchain changed. Raises DevError."""
    sources = deployed("devcluster")
    module = (sources / "go.mod").read_text()
    go = toolchain(cache, required(module, r"^go (\S+)$"), report)
    flags = ["-trimpath", "-buildvcs=false", f"-ldflags={linker_flags(module)}"]
    directory = cache / "devcluster"
    binary = directory / f"devcluster-{key(sources, go, flags)}"
    if not binary.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with _only_builder(directory / "lock", report):
            if not binary.exists():
                _build(go, flags, sources, binary, report)
                _prune(directory, binary)
    os.utime(binary)
    return binary


def required(module: str, pattern: str) -> str:
    """What a line of go.mod says, by a pattern with one group."""
    match = re.search(pattern, module, re.MULTILINE)
    if match is None:
        raise DevError(f"deploy/devcluster/go.mod has no line {pattern}")
    return match[1]


def linker_flags(module: str) -> str:
    """Strip, and stamp the version of Kubernetes that go.mod names, as Kubernetes' own build does."""
    version = required(module, r"^\s+k8s\.io/kubernetes (v\d+\.\d+\S*)$")
    major, minor = version.removeprefix("v").split(".")[:2]
    package = "k8s.io/component-base/version"
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    values = [f"-X {package}.{name}={value}" for name, value in stamps.items()]
    return " ".join(["-s -w", *values, f"-X k8s.io/client-go/pkg/version.gitVersion={version}"])


def key(sources: Path, go: Toolchain, flags: list[str]) -> str:
    """A hash of what the binary depends on: each source file, the toolchain's version, target and flags."""
    digest = hashlib.sha256()
    parts = [go.version, go.target, *flags]
    for file in sorted(sources.iterdir()):
        if file.suffix == ".go" or file.name in {"go.mod", "go.sum"}:
            parts += [file.name, file.read_text()]
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()[:16]


@contextmanager
def _only_builder(lock: Path, report: Report) -> Iterator[None]:
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.step("Another process is building the cluster; waiting for it.")
            # Bounded by the builder's own deadline; the lock goes with its process.
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(go: Toolchain, flags: list[str], sources: Path, binary: Path, report: Report) -> None:
    log = binary.parent / "build.log"
    temporary = binary.parent / f".{binary.name}.{os.getpid()}"
    report.step("Building the cluster from Kubernetes' sources: minutes the first time, then cached.")
    try:
        with log.open("w") as output:
            report.step("Looking for what is to be compiled; the modules are fetched if need be.")
            packages = _stale_packages(go, flags, sources, output)
            with report.bar("Compiling packages", packages) as advance:
                command = [go.go, "build", "-v", *flags, f"-o={temporary}", "."]
                _compile(command, go, sources, output, lambda done: advance(min(done, packages)))
        temporary.replace(binary)
    except subprocess.CalledProcessError as error:
        raise DevError(f"building the cluster failed; all of it is in {log}\n{tail(log)}") from error
    except subprocess.TimeoutExpired as error:
        raise DevError(f"the cluster was not built within {error.timeout:.0f} s; see {log}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _stale_packages(go: Toolchain, flags: list[str], sources: Path, output: IO[str]) -> int:
    """How many packages `go build -v` is going to name."""
    listed = subprocess.run(
        [go.go, "list", "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", *flags, "."],
        cwd=sources,
        env=_environment(go),
        stdout=subprocess.PIPE,
        stderr=output,
        text=True,
        check=True,
        timeout=BUILD_TIMEOUT,
    )
    return len(listed.stdout.split())


def _compile(command: list[str], go: Toolchain, sources: Path, output: IO[str], advance: Advance) -> None:
    """Run `go build -v`, which names each package on a line of its own when it is compiled."""
    running = subprocess.Popen(
        command,
        cwd=sources,
        env=_environment(go),
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


def _environment(go: Toolchain) -> dict[str, str]:
    return {**go.environment, "CGO_ENABLED": "0"}


def _prune(directory: Path, current: Path) -> None:
    """Drop all but the binaries used last. One that still runs keeps its file's content until it ends."""
    binaries = sorted(directory.glob("devcluster-*"), key=lambda file: file.stat().st_mtime, reverse=True)
    for binary in [file for file in binaries if file != current][KEPT - 1 :]:
        binary.unlink()
