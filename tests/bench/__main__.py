"""`python -m tests.bench`: all benchmarks, or those that are named, one after the other."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from tests.bench import node_rounds
from tests.bench.client import BenchError
from vkubelet.api.client import ApiError, ApiUnavailableError
from vkubelet.dev.layout import DevError, default_cache

SCRIPTS: dict[str, tuple[list[str], list[str]]] = {
    "provider_rate": ([], ["500"]),
    "adoption": ([], ["200"]),
    "images": ([], ["--images", "200", "--runs", "3"]),
    "pull": ([], ["--size", "50", "--runs", "3"]),
    "logs": ([], ["50"]),
    "streams": ([], ["128"]),
    "exec": ([], ["--runs", "30", "--size", "128"]),
    "volumes": ([], ["--pods", "100", "--rounds", "2"]),
    "probes": ([], ["3"]),
    "hostile": ([], ["--pods", "10", "--rounds", "1"]),
    "deletion": ([], ["--pods", "60"]),
    "soak": ([], ["--pods", "400", "--first", "1200"]),
    "soak_use": ([], ["--rounds", "5", "--first", "20"]),
}
"""Benchmarks with a program of their own, with their arguments: as they are, and for a quick look."""
INTERRUPTED = 130


def main() -> int:
    """Run what is named; the exit code is 0 when everything gave figures, whatever they are."""
    options = _options()
    names = options.names or [*node_rounds.NAMES, *SCRIPTS]
    # Ended like interrupted: everything that was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        of_node = [name for name in node_rounds.NAMES if name in names]
        if of_node:
            sizes = node_rounds.QUICK if options.quick else node_rounds.Sizes()
            node_rounds.run(of_node, sizes, options.cache_dir, options.only)
        return max((_script(name, options.quick) for name in names if name in SCRIPTS), default=0)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BenchError, ApiError, ApiUnavailableError, DevError, ExceptionGroup) as error:
        for cause in _causes(error):
            print(f"bench: {cause}", file=sys.stderr)
        return 1


def _options() -> argparse.Namespace:
    names = [*node_rounds.NAMES, *SCRIPTS]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all when none")
    parser.add_argument("--quick", action="store_true", help="smaller numbers, one round: a look in a minute")
    parser.add_argument(
        "--only", choices=["vkubelet", "kwok"], help="of the node's benchmarks, one side alone"
    )
    parser.add_argument(
        "--cache-dir", type=Path, default=default_cache(), help="where built programs are kept"
    )
    options = parser.parse_args()
    for name in options.names:
        if name not in names:
            parser.error(f"no benchmark is named {name}: there are {', '.join(names)}")
    return options


def _script(name: str, quick: bool) -> int:
    print(f"{name}:", flush=True)
    return subprocess.run([sys.executable, "-m", f"tests.bench.{name}", *SCRIPTS[name][quick]]).returncode


def _causes(error: Exception) -> list[Exception]:
    if isinstance(error, ExceptionGroup):
        return [cause for part in error.exceptions for cause in _causes(part)]
    return [error]


if __name__ == "__main__":
    sys.exit(main())
