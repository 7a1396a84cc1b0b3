"""kwok, built from its Go module: the peer that pretends to run pods, and so the floor of what a node takes.

Nothing of it is in this repository but its version, in `kwok/go.mod`. The program and the stages that tell
it how to pretend are cached as the dev cluster's program is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vkubelet.dev.goprogram import BUILD_TIMEOUT, key, required
from vkubelet.dev.layout import DevError
from vkubelet.dev.report import Report
from vkubelet.dev.toolchain import Toolchain, toolchain

SOURCES = Path(__file__).with_name("kwok")
MODULE = "sigs.k8s.io/kwok"
PACKAGE = f"{MODULE}/cmd/kwok"
FLAGS = ["-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
STAGES = ("pod/fast", "node/fast", "node/heartbeat-with-lease")
"""kwok's default: pods are Running at once, nodes stay Ready by their leases."""


@dataclass(frozen=True)
class Program:
    """The binary and the files that it takes as `--config`."""

    binary: Path
    stages: tuple[Path, ...]


def program(cache: Path, report: Report) -> Program:
    """kwok as `kwok/go.mod` names it, built if it is not cached yet. Raises DevError."""
    go = toolchain(cache, required((SOURCES / "go.mod").read_text(), r"^go (\S+)$"), report)
    directory = cache / "kwok" / key(SOURCES, go, FLAGS)
    if not directory.exists():
        _build(go, directory, report)
    return Program(directory / "kwok", tuple(sorted(directory.glob("*.yaml"))))


def _build(go: Toolchain, directory: Path, report: Report) -> None:
    """Make the directory beside its place and rename it, so that a kill leaves nothing half made."""
    report.step("Building kwok from its Go module: minutes the first time, then cached.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".kwok-") as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        _go(go, ["build", *FLAGS, f"-o={made / 'kwok'}", PACKAGE])
        source = Path(_go(go, ["list", "-m", "-f", "{{.Dir}}", MODULE]).strip()) / "kustomize" / "stage"
        for stage in STAGES:
            for file in (source / stage).glob("*.yaml"):
                if file.name != "kustomization.yaml":
                    shutil.copyfile(file, made / f"{stage.replace('/', '-')}-{file.name}")
        try:
            made.rename(directory)
        except OSError as error:
            if not directory.exists():  # Else another process was as fast: its build serves us both.
                raise DevError(f"kwok cannot be put into {directory}: {error}") from error


def _go(go: Toolchain, arguments: list[str]) -> str:
    try:
        done = subprocess.run(
            ["nice", go.go, *arguments],
            cwd=SOURCES,
            env={**go.environment, "CGO_ENABLED": "0", "PWD": os.fspath(SOURCES)},
            capture_output=True,
            text=True,
            check=True,
            timeout=BUILD_TIMEOUT,
        )
    except subprocess.CalledProcessError as error:
        raise DevError(f"go {' '.join(arguments)}: {error.stderr.strip()[-2000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise DevError(f"kwok was not built within {error.timeout:.0f} s") from error
    return done.stdout
