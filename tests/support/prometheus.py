"""Prometheus' scraper against a cluster, with jobs as its users write them, and the samples it stores."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from peers import build_peer


@dataclass(frozen=True)
class Sample:
    """A sample as it is stored: after relabelling, with its name among the labels; `timestamp` is in ms."""

    labels: Mapping[str, str]
    value: float
    timestamp: int
    type: str


@contextmanager
def samples(config: Mapping[str, Any], directory: Path, timeout: float) -> Iterator[Iterator[Sample]]:
    """What a Prometheus of that configuration stores, as it comes, for at most `timeout` seconds."""
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(dict(config)))
    log = directory / "prometheus.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [build_peer("prometheus"), f"--config.file={file}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as scraper,
    ):
        assert scraper.stdout is not None
        overdue = threading.Timer(timeout, scraper.kill)
        overdue.start()
        try:
            yield (_sample(json.loads(line)) for line in scraper.stdout if line.endswith("\n"))
        finally:
            overdue.cancel()
            scraper.kill()


def _sample(line: Mapping[str, Any]) -> Sample:
    return Sample(line["labels"], float(line["value"]), line["timestamp"], line["type"])
