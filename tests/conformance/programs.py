"""The two Go programs of the conformance tests: Kubernetes' suite, and the guest that its images hold here.

Both are built and cached as the cluster's program is. It must not know clusters or specs.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vkubelet.dev import toolbox
from vkubelet.dev.goprogram import Program, Run, built, required
from vkubelet.dev.report import Report
from vkubelet.dev.toolchain import toolchain

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags=-s -w")
"""As the cluster's: else nothing compiled for it could be used."""
KEPT = 2


def suite(cache: Path, report: Report) -> Path:
    """The suite's program. Raises DevError."""
    return _built(
        Program(
            name="conformance-suite",
            title="Kubernetes' e2e suite",
            announcement="Building Kubernetes' e2e suite: minutes the first time, then cached.",
            sources=HERE / "suite",
            flags=FLAGS,
            kept=KEPT,
        ),
        cache,
        report,
    )


def guest(cache: Path, report: Report) -> Path:
    """The module that the suite's images hold here. Raises DevError."""
    return _built(
        Program(
            name="conformance-guest",
            title="the suite's guest",
            announcement="Building the guest of the suite's images: less than a minute, then cached.",
            sources=HERE / "images",
            flags=FLAGS,
            kept=KEPT,
            target={"GOOS": "wasip1", "GOARCH": "wasm"},
            prepared=_beside_the_toolbox,
            more=(toolbox.SOURCES,),
        ),
        cache,
        report,
    )


def _built(program: Program, cache: Path, report: Report) -> Path:
    minimum = required((program.sources / "go.mod").read_text(), r"^go (\S+)$")
    return built(program, toolchain(cache, minimum, report), cache, report)


@contextmanager
def _beside_the_toolbox(sources: Path, run: Run) -> Iterator[Path]:
    """A copy of the sources and the toolbox's, as they lie in the repository: go.mod says where."""
    with tempfile.TemporaryDirectory(prefix="vkubelet-guest-") as temporary:
        for tree in (sources, toolbox.SOURCES):
            shutil.copytree(tree, Path(temporary) / tree.relative_to(REPOSITORY))
        directory = Path(temporary) / sources.relative_to(REPOSITORY)
        toolbox.vendor(directory, run)
        yield directory
