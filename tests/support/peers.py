"""Programs that nodes have to please, built from their own Go modules and cached as the cluster's program is.

Nothing of them is in this repository but their versions and what composes them, in `tests/peers/NAME`. Their
modules name the versions of libraries that the cluster's program has, so that what was compiled for it serves
them too: where that is built already, each takes some twenty seconds, cosign a minute of a processor, and
minutes where it is not.
"""

from __future__ import annotations

import os
from pathlib import Path

from vkubelet.dev.goprogram import Program, built, required
from vkubelet.dev.layout import default_cache
from vkubelet.dev.report import Report
from vkubelet.dev.toolchain import toolchain

PEERS = Path(__file__).parents[1] / "peers"
KEPT = 2


def build_peer(name: str, package: str = ".") -> Path:
    """The program of `tests/peers/NAME`, or `package` of a module that it requires. Raises DevError."""
    sources = PEERS / name
    program = Program(
        name=name,
        title=name,
        announcement=f"Building {name} from its Go module: seconds beside a built cluster, then cached.",
        sources=sources,
        # As the cluster's: else nothing compiled for it could be used.
        flags=("-trimpath", "-buildvcs=false", "-ldflags=-s -w"),
        kept=KEPT,
        package=package,
    )
    cache = Path(os.environ.get("VKUBELET_CACHE_DIR") or default_cache())
    minimum = required((sources / "go.mod").read_text(), r"^go (\S+)$")
    report = Report()
    return built(program, toolchain(cache, minimum, report), cache, report)
