"""What is expected of each spec, what a run saw, and whether the one fits the other; pure.

The list of expectations is text, a line a spec, so that a change of one is a change of one line. It must
not know how specs are run.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SEPARATOR = " | "


class Expectation(enum.Enum):
    """What a spec does on a wasm node. All but PASSES need a reason."""

    PASSES = "passes"
    CANNOT = "cannot-on-wasm"
    NOT_YET = "not-yet"


class ListError(ValueError):
    """The list of specs is not what it should be; the text names the line."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the list. `is_quick` puts a passing spec into the subset for every change."""

    name: str
    expectation: Expectation
    reason: str = ""
    is_quick: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """How one spec ended. `state` is Ginkgo's word, `seconds` how long it took, `message` why it failed.

    `attempts` are how often it was tried until it passed.
    """

    name: str
    state: str
    seconds: float
    message: str = ""
    attempts: int = 1

    @property
    def passed(self) -> bool:
        """A spec that skips itself has shown nothing."""
        return self.state == "passed"


def read_list(text: str) -> dict[str, Listed]:
    """The expectations by spec. Lines: `passes`, `passes quick` or `KIND: REASON`, ` | `, the spec's name.

    Raises ListError.
    """
    found: dict[str, Listed] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        verdict, separator, name = line.partition(SEPARATOR)
        if not separator:
            raise ListError(f"line {number}: no {SEPARATOR.strip()!r} between what is expected and a spec")
        listed = _listed(verdict.strip(), name.strip(), number)
        if listed.name in found:
            raise ListError(f"line {number}: the spec is in the list already: {listed.name}")
        found[listed.name] = listed
    return found


def _listed(verdict: str, name: str, number: int) -> Listed:
    kind, _, reason = verdict.partition(":")
    word, _, more = kind.partition(" ")
    try:
        expectation = Expectation(word)
    except ValueError as error:
        kinds = ", ".join(kind.value for kind in Expectation)
        raise ListError(f"line {number}: {word!r} is none of {kinds}") from error
    reason = reason.strip()
    is_quick = more == "quick"
    if (more and not is_quick) or (is_quick and expectation is not Expectation.PASSES):
        raise ListError(f"line {number}: {kind!r}: only passing specs are quick, and nothing else")
    if (expectation is Expectation.PASSES) is bool(reason):
        raise ListError(f"line {number}: a spec that passes has no reason, and every other one has")
    return Listed(name, expectation, reason, is_quick)


def write_list(head: str, listed: Iterable[Listed]) -> str:
    """The text that `read_list` reads, after the lines of `head`."""
    lines = []
    for spec in sorted(listed, key=lambda spec: spec.name):
        quick = " quick" if spec.is_quick else ""
        reason = f": {spec.reason}" if spec.reason else ""
        lines.append(f"{spec.expectation.value}{quick}{reason}{SEPARATOR}{spec.name}")
    return "\n".join([head.rstrip("\n"), *lines, ""])


def read_report(suites: Sequence[Mapping[str, Any]]) -> list[Result]:
    """The specs that ran, of Ginkgo's JSON report. What its filters left out did not run."""
    results = []
    for suite in suites:
        for spec in suite.get("SpecReports") or ():
            if spec["LeafNodeType"] != "It" or (spec["State"] == "skipped" and not spec.get("Failure")):
                continue
            name = " ".join([*(spec.get("ContainerHierarchyTexts") or ()), spec["LeafNodeText"]])
            message = (spec.get("Failure") or {}).get("Message", "")
            attempts = max(1, spec.get("NumAttempts", 1))
            results.append(Result(name, spec["State"], spec.get("RunTime", 0) / 1e9, message, attempts))
    return results


def complaints(
    expected: Mapping[str, Listed], results: Iterable[Result], wanted: Collection[str]
) -> list[str]:
    """What of a run is not as the list has it, each as a line; `wanted` are the specs that were to run."""
    by_name = {result.name: result for result in results}
    found = []
    for name in sorted({*wanted, *by_name}):
        listed, result = expected.get(name), by_name.get(name)
        if result is None:
            found.append(f"did not run: {name}")
        elif listed is None:
            found.append(f"not in the list ({result.state}): {name}")
        elif listed.expectation is Expectation.PASSES and not result.passed:
            found.append(f"{result.state}, but listed as passing: {name}\n    {first_line(result.message)}")
        elif listed.expectation is not Expectation.PASSES and result.passed:
            found.append(f"passes, but listed as {listed.expectation.value}: {name}")
    return found


def first_line(message: str, most: int = 300) -> str:
    """The beginning of a message, on one line."""
    return re.sub(r"\s+", " ", message)[:most]


def focus(names: Iterable[str]) -> str:
    """A regular expression of Go that matches exactly these specs."""
    escaped = (re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", name) for name in sorted(names))
    return f"(?:{'|'.join(escaped)})$"
