"""A short run of the fuzzer, the same every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_a_short_run_of_the_fuzzer(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz.spdy", "-runs=15000", "-seed=1", "-max_len=1000"]
    ran = subprocess.run(
        [*command, f"-artifact_prefix={tmp_path}/"], cwd=ROOT, capture_output=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()[-4000:]
    assert b"Done 15000 runs" in ran.stderr
