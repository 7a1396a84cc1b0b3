"""What a person sees while a command works: steps, and a bar for the one step that takes minutes.

On a terminal the bar moves; elsewhere (CI, a pipe) it is a line every ten per cent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Advance(Protocol):
    """Tells a bar that `done` of its total are done."""

    def __call__(self, done: int) -> None:
        """Move the bar."""


class Report:
    """Writes steps to standard error, so that standard output stays the command's own."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)

    def step(self, text: str) -> None:
        """One line: what begins now."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Advance]:
        """A bar of `total` units for as long as the block runs."""
        if not self.console.is_terminal:
            yield self._lines(text, total)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(text, total=total)
            yield lambda done: progress.update(task, completed=done)

    def _lines(self, text: str, total: int) -> Advance:
        shown = 0

        def advance(done: int) -> None:
            nonlocal shown
            tenth = done * 10 // max(total, 1)
            if tenth > shown:
                shown = tenth
                self.step(f"{text}: {done} of {total}")

        return advance
