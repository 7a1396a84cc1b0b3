"""A figure of a node beside its peer's, and the table that people read; how it was measured is not known."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

Figures = dict[str, float]
"""What one visit measured, by the key of its row."""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    `most` is the target for the figure itself, `least_ratio` for its ratio to the peer's; a row without
    either explains another one. A figure that can be near nothing at a peer is not `compared`.
    """

    key: str
    label: str
    unit: str
    digits: int = 1
    most: float | None = None
    least_ratio: float | None = None
    compared: bool = True

    def target(self) -> str:
        """The target in words; empty when there is none."""
        if self.most is not None:
            return f"at most {self.most:g} {self.unit}"
        return f"at least {self.least_ratio:g} of the peer" if self.least_ratio is not None else ""

    def met(self, figure: float, ratio: float | None) -> bool | None:
        """Whether the target is met; None when there is none, or nothing to compare with."""
        if self.most is not None:
            return figure <= self.most
        if self.least_ratio is not None and ratio is not None:
            return ratio >= self.least_ratio
        return None


def medians(visits: Sequence[Figures]) -> Figures:
    """The median of each figure over all visits to one peer."""
    return {key: statistics.median(visit[key] for visit in visits) for key in visits[0]} if visits else {}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that is not less than `share` of all."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def show(console: Console, title: str, rows: Sequence[Row], ours: Figures, peer: Figures) -> None:
    """One table: the figure, the peer's, their ratio, the target."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("")
    for column in ("vkubelet", "kwok", "ratio"):
        table.add_column(column, justify="right")
    table.add_column("target")
    for row in rows:
        if row.key in ours or row.key in peer:
            table.add_row(row.label, *_cells(row, ours, peer))
    console.print(table)
    console.print()


def _cells(row: Row, ours: Mapping[str, float], peer: Mapping[str, float]) -> tuple[str, str, str, str]:
    mine, other = ours.get(row.key), peer.get(row.key)
    ratio = mine / other if row.compared and mine is not None and other else None
    met = row.met(mine, ratio) if mine is not None else None
    verdict = {True: ": met", False: ": MISSED", None: ""}[met]
    return (
        _number(row, mine),
        _number(row, other),
        f"{ratio:.2f}" if ratio is not None else "",
        row.target() + verdict if row.target() else "",
    )


def _number(row: Row, value: float | None) -> str:
    return f"{value:.{row.digits}f} {row.unit}" if value is not None else "-"
