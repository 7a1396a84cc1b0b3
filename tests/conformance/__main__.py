"""`python -m tests.conformance`: run Kubernetes' node specs and hold what they do against specs.txt.

All [NodeConformance] specs run, or with --quick those that are listed as quick. The exit code is 0 when every
spec did what the list has: one that is listed as passing passed, and no other one did.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from oci.errors import OciError
from tests.conformance import environment, programs, runner
from tests.conformance.verdicts import (
    Expectation,
    Listed,
    ListError,
    Result,
    complaints,
    first_line,
    read_list,
    write_list,
)
from vkubelet.dev.layout import DevError, default_cache
from vkubelet.dev.report import Report

LIST = programs.HERE / "specs.txt"
PATTERN = r"\[NodeConformance\]"
RESULTS = programs.REPOSITORY / ".cache" / "conformance"
INTERRUPTED = 130
QUICK = 10.0
"""Seconds that a spec may take to be put into the subset when it passes for the first time."""
PASSING = runner.Limits(procs=10, spec=2400, all=3 * 3600, attempts=3)
"""The longest spec waits for a back-off of five minutes to be reached, which takes half an hour."""
OTHER = runner.Limits(procs=10, spec=90, all=3600)
"""A spec that cannot pass is given up soon: most would wait for minutes."""


def main() -> int:
    """Run, compare, say."""
    options = _options()
    # Ended like interrupted: everything that was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (DevError, ListError, OciError, OSError) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run only the specs that are listed as quick")
    parser.add_argument("--only", default="", metavar="REGEX", help="run only specs whose names match")
    parser.add_argument("--procs", type=int, default=PASSING.procs, help="how many specs at once")
    parser.add_argument("--seconds", type=float, help="what a spec may take that is not listed as passing")
    parser.add_argument("--update", action="store_true", help="write what was seen into the list")
    parser.add_argument("--dir", type=Path, default=RESULTS, help="where results, logs and data go")
    parser.add_argument("--node-option", action="append", default=[], help="a flag of `vkubelet run`")
    return parser.parse_args()


def _run(options: argparse.Namespace) -> int:
    report = Report()
    cache = Path(os.environ.get("VKUBELET_CACHE_DIR") or default_cache())
    expected = read_list(LIST.read_text())
    with environment.running(cache, options.dir.resolve(), report, options.node_option) as started:
        chosen = set(runner.list_specs(started.suite, PATTERN)) | set(expected)
        if options.quick:
            chosen = {name for name in chosen if name in expected and expected[name].is_quick}
        chosen = {name for name in chosen if re.search(options.only, name)}
        passing = {name for name in chosen if name in expected and _passes(expected[name])}
        other = runner.Limits(options.procs, options.seconds or OTHER.spec, OTHER.all)
        results = []
        for name, specs, limits in (
            ("passing", passing, dataclasses.replace(PASSING, procs=options.procs)),
            ("other", chosen - passing, other),
        ):
            report.step(f"Running {len(specs)} specs ({name}), {limits.procs} at once")
            began = time.monotonic()
            found = runner.run(started, name, specs, limits)
            report.step(f"{_summary(found)} in {time.monotonic() - began:.0f} s")
            for result in found:
                if result.passed and result.attempts > 1:
                    report.step(f"passed at attempt {result.attempts}: {result.name}")
            results += found
    _write_results(options.dir / "results.txt", results)
    if options.update:
        _update(expected, results)
        return 0
    wrong = complaints(expected, results, chosen)
    for line in wrong:
        print(line)
    print(f"{len(chosen) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong else 0


def _passes(listed: Listed) -> bool:
    return listed.expectation is Expectation.PASSES


def _summary(results: list[Result]) -> str:
    counted = Counter(result.state for result in results)
    return ", ".join(f"{count} {state}" for state, count in sorted(counted.items())) or "nothing"


def _write_results(file: Path, results: list[Result]) -> None:
    lines = [
        f"{result.state} {result.seconds:.1f}s {result.name}"
        + (f"\n    {first_line(result.message)}" if result.message else "")
        for result in sorted(results, key=lambda result: result.name)
    ]
    file.write_text("\n".join([*lines, ""]))


def _update(expected: dict[str, Listed], results: list[Result]) -> None:
    """Take over what passed, and what did not with its message, unless the list has a reason already."""
    head = "".join(line for line in LIST.read_text().splitlines(keepends=True) if line.startswith("#"))
    updated = dict(expected)
    for result in results:
        before = expected.get(result.name)
        if result.passed:
            quick = result.seconds <= QUICK if before is None or not _passes(before) else before.is_quick
            updated[result.name] = Listed(result.name, Expectation.PASSES, is_quick=quick)
        elif before is None or _passes(before):
            reason = first_line(result.message, 160).replace("|", "/") or result.state
            updated[result.name] = Listed(result.name, Expectation.NOT_YET, reason)
    LIST.write_text(write_list(head, updated.values()))


if __name__ == "__main__":
    sys.exit(main())
