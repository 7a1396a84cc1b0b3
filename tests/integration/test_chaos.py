"""Two minutes of chaos, the pods' last back-off included: see tests/chaos."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.crowded]

ROOT = Path(__file__).parents[2]


def test_no_counter_goes_back_and_no_status_is_wrong(cluster_program: Path, tmp_path: Path) -> None:
    log, seed = tmp_path / "agents.log", secrets.randbelow(2**32)
    command = [
        sys.executable,
        "-m",
        "tests.chaos",
        "--minutes=1",
        "--pods=20",
        f"--seed={seed}",
        f"--log={log}",
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{log.read_text() if log.exists() else ''}"
