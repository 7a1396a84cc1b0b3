"""Events where there is no API server: lines of the log.

It exists so that what happens to a pod is told where nobody keeps objects. It must not know who reads them.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext

from vkubelet import logs
from vkubelet.api.objects import ObjectReference
from vkubelet.logs import Subject

logger = logging.getLogger(__name__)


class LoggedEvents:
    """Implements Recorder."""

    def event(self, ref: ObjectReference, type: str, reason: str, message: str) -> None:  # noqa: A002
        """See Recorder."""
        level = logging.INFO if type == "Normal" else logging.WARNING
        name = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
        where = f" {ref.field_path}" if ref.field_path else ""
        with logs.about(Subject(ref.namespace, ref.name, ref.uid)) if ref.kind == "Pod" else nullcontext():
            logger.log(level, "%s %s%s: %s: %s", ref.kind, name, where, reason, message)
