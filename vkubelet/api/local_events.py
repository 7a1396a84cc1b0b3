"""Events where there is no API server: lines of the log.

It exists so that what happens to a pod is told where nobody keeps objects. It must not know who reads them.
"""

from __future__ import annotations

import logging

from vkubelet.api.objects import ObjectReference

logger = logging.getLogger(__name__)


class LoggedEvents:
    """Implements Recorder."""

    def event(self, ref: ObjectReference, type: str, reason: str, message: str) -> None:  # noqa: A002
        """See Recorder."""
        level = logging.INFO if type == "Normal" else logging.WARNING
        name = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
        where = f" {ref.field_path}" if ref.field_path else ""
        logger.log(level, "%s %s%s: %s: %s", ref.kind, name, where, reason, message)
