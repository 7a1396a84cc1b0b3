"""A short run of each native fuzzer, the same every time, under each sanitizer.

A long one is the same with more runs: `python -m pytest tests/unit/providers/test_native_fuzz.py` with
FUZZ_RUNS=100000000 in the environment, or better one of libFuzzer: `python -m tests.fuzz.native`.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.fuzz.native import FUZZERS, working_directory

from .conftest import NATIVE_TESTS, VARIANTS, native

RUNS = {"spec": "20000", "protocol": "2000", "attach": "1000"}
"""What takes about as long of each."""


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", FUZZERS)
def test_a_short_run_of_the_fuzzer(name: str, variant: str) -> None:
    fuzzer = FUZZERS[name]
    program = native(f"fuzz_{name}", variant, [NATIVE_TESTS / "fuzz.c", *fuzzer.files(name)])
    with working_directory() as directory:
        seeds = fuzzer.write_seeds(directory / "seeds")
        command = [program, os.environ.get("FUZZ_RUNS", RUNS[name]), "1", *seeds]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert f"{done.stdout}{done.stderr}" == "done\n"
