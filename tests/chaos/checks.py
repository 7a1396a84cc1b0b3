"""What must be true of pods that count, whatever has been killed; pure but for reading a node's files.

It exists apart from the killing so that it can be tried by itself. It must not know what was killed, but how
often each container was.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from providers.wasmtime import files, processes
from vkubelet.api import times

Json = dict[str, Any]
SECOND = 10**9


@dataclasses.dataclass
class Counted:
    """What was seen of one pod's counter. Each `see` may add a text to `wrong`."""

    pod: str
    value: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)

    def see(self, value: int) -> None:
        """The volume's number now."""
        if value < self.value:
            self.wrong.append(f"{self.pod}: the counter went from {self.value} back to {value}")
        self.value = max(self.value, value)


def numbers(log: Iterable[str]) -> list[int]:
    """The numbers of a log in the CRI format."""
    return [int(line.split(" ", 3)[3]) for line in log if " stdout F " in line]


def check_numbers(pod: str, said: list[int], value: int, restarts: int) -> list[str]:
    """Of all that the logs of a pod say, in their order, and the volume's last number.

    A process that is killed between its file and its log says one number less.
    """
    pairs = list(itertools.pairwise(said))
    wrong = [f"{pod}: {before} is followed by {after}" for before, after in pairs if after <= before]
    missing = sum(after - before - 1 for before, after in pairs if after > before)
    if missing > restarts:
        wrong.append(f"{pod}: {missing} numbers are missing after {restarts} restarts")
    if not said:
        wrong.append(f"{pod}: its logs say nothing")
    elif not said[-1] <= value <= said[-1] + 1:
        wrong.append(f"{pod}: it said {said[-1]} at last, and the volume has {value}")
    return wrong


def check_status(pod: Json, containers: Path, kills: int) -> list[str]:
    """Of a pod's status against its containers' own records, and against how often they were killed."""
    name = pod["metadata"]["name"]
    (status,) = pod["status"]["containerStatuses"]
    wrong = []
    if status["restartCount"] != kills:
        wrong.append(f"{name}: {status['restartCount']} restarts, and it was killed {kills} times")
    if "running" not in status["state"]:
        wrong.append(f"{name}: it does not run: {status['state']}")
    else:
        wrong += _check_running(name, status, containers)
    last = status["lastState"].get("terminated")
    if last is not None:
        wrong += _check_ended(name, last, containers)
    elif kills:
        wrong.append(f"{name}: it was killed, and no last state tells how it ended")
    return wrong


def _check_running(name: str, status: Json, containers: Path) -> list[str]:
    directory = containers / _identifier(status["containerID"])
    if not (directory / "started").exists():
        return [f"{name}: the container that runs is not on the node"]
    started = files.decode_started((directory / "started").read_bytes())
    process = processes.stat(started.pid)
    wrong = []
    if process is None or process[1] != started.start_time or (directory / "exit").exists():
        wrong.append(f"{name}: it is said to run, and its process has ended")
    if int(times.parse(status["state"]["running"]["startedAt"])) != started.started_at // SECOND:
        wrong.append(f"{name}: it is said to run since another time than its record says")
    return wrong


def _check_ended(name: str, last: Json, containers: Path) -> list[str]:
    record = containers / _identifier(last["containerID"]) / "exit"
    if not record.exists():
        return [f"{name}: of its last container there is no record"]
    ended = files.decode_exit(record.read_bytes())
    told = (last["exitCode"], *(int(times.parse(last[key])) for key in ("startedAt", "finishedAt")))
    recorded = (ended.code, ended.started_at // SECOND, ended.finished_at // SECOND)
    return [] if told == recorded else [f"{name}: its last end is told as {told}, and recorded as {recorded}"]


def _identifier(text: str) -> str:
    return text.partition("://")[2]
