"""The agent's own log: its two formats, which pod a record is about, and its level while it runs.

It exists so that whoever logs says only what happened: the pod and the container are those for which the task
works (`speak_of`), and tasks and threads that it starts inherit them. Formats, keys and verbosity are those
of Kubernetes' component-base (logs/json, klog's text), so that what reads a kubelet's log reads this one. It
must not know what a pod is, nor where records come from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import PurePath
from typing import Any, Literal, TextIO

DEBUG_VERBOSITY = 4
"""The verbosity from which a kubelet's log is one for debugging."""
_MOST = 2**31 - 1
_NUMBER = re.compile("[0-9]{1,10}")


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """The pod that work is done for, and the container of it if it is one's alone."""

    namespace: str
    name: str
    uid: str
    container: str = ""


_subject: ContextVar[Subject | None] = ContextVar("subject", default=None)


def speak_of(subject: Subject) -> None:
    """What this task logs from now on, and those that it starts, is about this pod."""
    _subject.set(subject)


def speak_of_container(name: str) -> None:
    """What this task logs from now on is about this container of the pod that it works for, if any."""
    found = _subject.get()
    if found is not None:
        _subject.set(dataclasses.replace(found, container=name))


@contextlib.contextmanager
def about(subject: Subject) -> Iterator[None]:
    """What is logged meanwhile is about this pod."""
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


class TextFormatter(logging.Formatter):
    """A line for people: time, level, logger and message, then `pod="default/web" podUID="..."` as klog."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """See logging.Formatter: what comes before the trace of an exception."""
        line, subject = super().formatMessage(record), _subject.get()
        if subject is None:
            return line
        keys = f'pod="{subject.namespace}/{subject.name}" podUID="{subject.uid}"'
        return f"{line} {keys}" + (f' containerName="{subject.container}"' if subject.container else "")


class JsonFormatter(logging.Formatter):
    """A JSON object a line, with component-base's keys and `level`, which tells warnings from the rest.

    `ts` is milliseconds since the epoch; `v` is klog's verbosity of the record, of which errors have none.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        place = PurePath(record.pathname)
        line: dict[str, Any] = {
            "ts": round(record.created * 1000, 3),
            "caller": f"{place.parent.name}/{place.name}:{record.lineno}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.levelno < logging.ERROR:
            line["v"] = DEBUG_VERBOSITY if record.levelno <= logging.DEBUG else 0
        subject = _subject.get()
        if subject is not None:
            line["pod"] = {"name": subject.name, "namespace": subject.namespace}
            line["podUID"] = subject.uid
            if subject.container:
                line["containerName"] = subject.container
        if record.exc_info and record.exc_info[1] is not None:
            line["err"] = str(record.exc_info[1])
            line["stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up(level: str, form: Literal["text", "json"], stream: TextIO | None = None) -> None:
    """Log what is at least `level` (debug, info, warning, error) to `stream`, or else to standard error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def verbosity(level: str) -> int:
    """The kubelet's verbosity (logging.verbosity) that is nearest to a level."""
    return DEBUG_VERBOSITY if level == "debug" else 0


def set_verbosity(text: str) -> str:
    """Log, from now on, what a kubelet of this verbosity does: from 4 on all, below it no records for
    debugging. The kubelet's answer to that (component-base's GlogSetter). Raises ValueError, with its text.
    """
    if not _NUMBER.fullmatch(text) or int(text) > _MOST:
        raise ValueError(f"failed set klog.logging.verbosity {text[:64]}: it is no number from 0 to {_MOST}")
    logging.getLogger().setLevel(logging.DEBUG if int(text) >= DEBUG_VERBOSITY else logging.INFO)
    return f"successfully set klog.logging.verbosity to {text}"
