"""A short run of each native fuzzer, the same every time, under each sanitizer.

A long one is the same with more runs: `python -m pytest tests/unit/providers/test_native_fuzz.py` with
FUZZ_RUNS=100000000 in the environment, or with clang's libFuzzer (tests/native/fuzz.c says how).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from providers.base import FileMount, Group, Identity, Preopen

from .conftest import NATIVE_TESTS, VARIANTS, build, native
from .test_spec import encode, spec_with

RUNS = os.environ.get("FUZZ_RUNS", "20000")
ID = b"0123456789abcdef" * 4
SPECS = (
    spec_with(),
    spec_with(
        args=("guest", "argument"),
        env=(("HOME", "/"), ("EMPTY", "")),
        working_dir="/work",
        preopens=(Preopen(Path("/a"), "/b", read_only=True), Preopen(Path("/c"), "/d", beneath="e/f")),
        files=(FileMount(Path("/g"), "/h", read_only=True), FileMount(Path("/i"), "/j", beneath="k")),
        identity=Identity(1, 2, (3, 4)),
        group=Group("pod", 1 << 20, 100, 10, 2, 5),
        memory_limit=1 << 30,
        oom_score_adj=-5,
        stdin=True,
        tty=True,
        network=True,
        stop_file=True,
        read_only_root=True,
    ),
)


def piece(text: bytes, descriptors: int = 0) -> bytes:
    """A piece of what an agent sends, as fuzz_protocol.c reads it; of a text of a multiple of four bytes."""
    return bytes([len(text) // 4 * 5 + descriptors]) + text


def line(verb: bytes) -> bytes:
    text = verb + b" 17 " + ID + b"\n"
    return text[:-1].ljust(-len(text) % 4 + len(text) - 1, b"0") + b"\n" if len(text) % 4 else text


STREAMS = (
    piece(b"start 1 " + ID[:24]) + piece(ID[24:] + b"\nrun"),
    piece(b"run 123 " + ID[:40], 3) + piece(ID[40:] + b"\nrun") + piece(b" 124 " + ID[:59], 3),
    piece(line(b"serve")) + piece(line(b"run"), 3) + piece(line(b"start"), 4),
    piece(b"shutdown" + b"\n" * 4),
    b"".join(piece(line(b"run"), 3) for _ in range(70)),
    piece(b"x" * 200) + piece(b"y" * 200),
)


def fuzz(name: str, variant: str, sources: tuple[str, ...], seeds: list[bytes], directory: Path) -> str:
    own = [NATIVE_TESTS / "fuzz.c", NATIVE_TESTS / f"{name}.c"]
    program = native(name, variant, [*own, *(build.NATIVE / source for source in sources)])
    paths = []
    for number, seed in enumerate(seeds):
        paths.append(directory / str(number))
        paths[-1].write_bytes(seed)
    done = subprocess.run([program, RUNS, "1", *paths], capture_output=True, text=True, check=False)
    return f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_spec_of_a_container(variant: str, tmp_path: Path) -> None:
    seeds = [encode(spec) for spec in SPECS]
    assert fuzz("fuzz_spec", variant, ("spec.c",), seeds, tmp_path) == "done\n"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_protocol_of_the_launcher(variant: str, tmp_path: Path) -> None:
    sources = ("connection.c", "requests.c")
    assert fuzz("fuzz_protocol", variant, sources, list(STREAMS), tmp_path) == "done\n"
