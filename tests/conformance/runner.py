"""Runs specs of the suite against a cluster that is there, several at once, and reads how they ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.conformance.environment import Environment
from tests.conformance.verdicts import Result, focus, read_report
from vkubelet.dev.layout import DevError

END_TIMEOUT = 60.0
"""Seconds for Ginkgo to clean up after an interruption."""
LATENESS = 120.0
"""Seconds that Ginkgo may take to end after its own time limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once, and how long: `spec` for one of them and `all` for all of them, in seconds.

    `attempts` are how often a spec is tried that fails: many specs wait for things that take their time, and
    the machine may be a busy one.
    """

    procs: int
    spec: float
    all: float
    attempts: int = 1


def list_specs(suite: Path, pattern: str) -> list[str]:
    """The names of the suite's specs that match a regular expression."""
    done = subprocess.run([suite, "--list-tests"], capture_output=True, text=True, check=True, timeout=120)
    found = (re.match(r"\s+\S+\.go:\d+: (.*)", line) for line in done.stdout.splitlines())
    return sorted(match[1] for match in found if match and re.search(pattern, match[1]))


def run(environment: Environment, name: str, specs: Collection[str], limits: Limits) -> list[Result]:
    """Run these specs; the run's `name` is that of its files. Raises DevError when there is no report."""
    if not specs:
        return []
    directory = environment.directory
    report, output = directory / f"{name}.json", directory / f"{name}.txt"
    command = [
        str(environment.suite),
        "ginkgo",
        f"--procs={min(limits.procs, len(specs))}",
        f"--focus={focus(specs)}",
        f"--timeout={limits.all:.0f}s",
        "--grace-period=10s",
        f"--flake-attempts={limits.attempts}",
        "--no-color",
        f"--output-dir={directory}",
        f"--json-report={report.name}",
        str(environment.suite),
        "--",
        *environment.arguments,
        f"--spec-timeout={limits.spec:.0f}s",
    ]
    # Its processes may outlive it when it is killed; in a session of their own they can be found.
    with (
        output.open("wb") as log,
        subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, "KUBE_TEST_REPO_LIST": str(environment.repositories)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as running,
    ):
        try:
            running.wait(limits.all + LATENESS)
        except subprocess.TimeoutExpired as error:
            _end(running)
            raise DevError(f"the suite did not end within its time; its output is {output}") from error
        except BaseException:
            _end(running)
            raise
    if not report.exists():
        raise DevError(f"the suite left no report; its output is {output}")
    return read_report(msgspec.json.decode(report.read_bytes()))


def _end(running: subprocess.Popen[bytes]) -> None:
    os.killpg(running.pid, signal.SIGINT)
    try:
        running.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
