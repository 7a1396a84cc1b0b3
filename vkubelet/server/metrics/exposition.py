"""Families of samples as text: Prometheus' text format 0.0.4 and OpenMetrics 1.0.0.

It exists so that both formats, and which of them a client gets, are in one place, as pure functions. The
rules are those of Prometheus' own Go library (expfmt, promhttp). It must not know what is measured.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from vkubelet.meters import Family


class Format(enum.Enum):
    """A format, by its media type without the escaping that the client named."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS_0 = "application/openmetrics-text; version=0.0.1; charset=utf-8"
    OPENMETRICS_1 = "application/openmetrics-text; version=1.0.0; charset=utf-8"


_OFFERED = {
    ("text/plain", ""): Format.TEXT,
    ("text/plain", "0.0.4"): Format.TEXT,
    ("application/openmetrics-text", ""): Format.OPENMETRICS_0,
    ("application/openmetrics-text", "0.0.1"): Format.OPENMETRICS_0,
    ("application/openmetrics-text", "1.0.0"): Format.OPENMETRICS_1,
}
_ESCAPINGS = frozenset({"allow-utf-8", "underscores", "dots", "values"})


def negotiate(accept: str) -> tuple[Format, str]:
    """The format for an Accept header, and its whole Content-Type.

    What is best for the client counts, and text where nothing fits: protocol buffers are not offered. All
    names are of the old alphabet, so that every escaping comes to the same; the client's is repeated.
    """
    escaping = "underscores"
    for kind, parameters in _ranges(accept):
        if parameters.get("escaping") in _ESCAPINGS:
            escaping = parameters["escaping"]
        found = _OFFERED.get((kind, parameters.get("version", "")))
        if found is not None:
            return found, f"{found.value}; escaping={escaping}"
    return Format.TEXT, f"{Format.TEXT.value}; escaping={escaping}"


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    return any(kind == "gzip" for kind, _ in _ranges(accept_encoding))


def render(families: Iterable[Family], form: Format) -> bytes:
    """The families in `form`, which must have names of their own. May take its time: thousands of samples."""
    openmetrics = form is not Format.TEXT
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        name = shown = family.name
        if openmetrics and family.kind == "counter":
            # Its samples have a suffix there which the family's name does not have.
            name = family.name.removesuffix("_total")
            shown = f"{name}_total"
        lines.append(f"# HELP {name} {_help(family.help, quotes=openmetrics)}")
        lines.append(f"# TYPE {name} {family.kind}")
        for value, labels, timestamp, suffix in family.samples:
            line = f"{shown}{suffix}{{{labels}}} {value}" if labels else f"{shown}{suffix} {value}"
            if timestamp is not None:
                line += f" {timestamp:.3f}" if openmetrics else f" {int(timestamp * 1000)}"
            lines.append(line)
    if openmetrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines).encode()


def _help(text: str, *, quotes: bool) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text


def _ranges(header: str) -> list[tuple[str, dict[str, str]]]:
    """The parts of an Accept header with their parameters, the most wanted first; unwanted ones left out."""
    found = []
    for part in header.split(","):
        kind, *rest = (piece.strip() for piece in part.split(";"))
        pairs = (piece.partition("=") for piece in rest)
        parameters = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        if kind and quality > 0:
            found.append((quality, kind.lower(), parameters))
    found.sort(key=lambda entry: -entry[0])
    return [(kind, parameters) for _, kind, parameters in found]
