"""What a check comes to, and how people and programs are told.

It exists so that every check says three things in the same form: whether it is well, what was found, and what
to do. It must not know any check.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

Status = Literal["ok", "warning", "missing"]
"""`warning`: a node runs, with less; `missing`: there can be no node as it is configured."""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """One check: `found` is a line, and `advice` says how to get what is not there."""

    name: str
    status: Status
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Verdict:
    """All is well."""
    return Verdict(name, "ok", found)


def warning(name: str, found: str, advice: str) -> Verdict:
    """A node runs without it."""
    return Verdict(name, "warning", found, advice)


def missing(name: str, found: str, advice: str) -> Verdict:
    """No node runs without it."""
    return Verdict(name, "missing", found, advice)


def is_fit(verdicts: Iterable[Verdict]) -> bool:
    """Whether a node can run."""
    return all(verdict.status != "missing" for verdict in verdicts)


def as_text(verdicts: Iterable[Verdict]) -> str:
    """A line for each check, and one with the advice below those that have some."""
    lines = []
    for verdict in verdicts:
        lines.append(f"{verdict.status:<8} {verdict.name:<13} {verdict.found}")
        if verdict.advice:
            lines.append(f"{'':<22} -> {verdict.advice}")
    return "\n".join(lines)


def as_document(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """The same for programs."""
    found = list(verdicts)
    return {"fit": is_fit(found), "checks": [msgspec.to_builtins(verdict) for verdict in found]}
