"""What is wrong with a manifest, for the people who wrote it.

It exists so that every message names the file, the object and the field. It must not know what a manifest is
used for.
"""

from __future__ import annotations

from collections.abc import Iterable

_SHOWN = 20
"""Problems that one message lists; whoever has more has to begin with some of them."""


class ManifestError(Exception):
    """A manifest that cannot be used: `SOURCE: OBJECT: FIELD: what is wrong`, several of them by commas."""

    def __init__(self, source: str, subject: str, problems: Iterable[str]) -> None:
        """`source` is a file; `subject` the object in it (`Pod default/hello`), empty when there is none."""
        self.source = source
        self.subject = subject
        self.problems = tuple(problems)
        shown = ", ".join(self.problems[:_SHOWN])
        if len(self.problems) > _SHOWN:
            shown += f" and {len(self.problems) - _SHOWN} more"
        super().__init__(": ".join(part for part in (source, subject, shown) if part))
