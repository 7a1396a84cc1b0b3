"""The sizes of containers' logs."""

from __future__ import annotations

from pathlib import Path

import pytest
from snapshots import container, pod_entry

from vkubelet.server.metrics import logs
from vkubelet.server.metrics.logs import LogMeter


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "default_web_web-uid" / "main" / "0.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 5000)
    return path


def test_rotated_files_count_too(tmp_path: Path, log: Path) -> None:
    log.with_name("0.log.20261124-000000").write_bytes(b"y" * 9000)
    entries = [pod_entry("web", container("main"), container("side")), pod_entry("new")]
    found = LogMeter(tmp_path).sizes(entries)
    assert found.keys() == {("web-uid", "main")}
    assert found["web-uid", "main"].size >= 14_000
    assert found["web-uid", "main"].inodes == 3


def test_a_log_is_looked_at_once_in_a_while(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = LogMeter(tmp_path)
    first = meter.sizes([pod_entry("web", container("main"))])
    log.write_bytes(b"x" * 50_000)
    other = log.parent.with_name("side")
    other.mkdir()
    both = meter.sizes([pod_entry("web", container("main"), container("side"))])
    assert both["web-uid", "main"] == first["web-uid", "main"]
    assert ("web-uid", "side") in both
    assert meter.sizes([]) == {}
    monkeypatch.setattr(logs, "SECONDS", 0.0)
    grown = meter.sizes([pod_entry("web", container("main"))])["web-uid", "main"].size
    assert grown >= 50_000
    log.write_bytes(b"")
    assert meter.sizes([pod_entry("web", container("main"))])["web-uid", "main"].size < grown
