"""Fuzzes the launcher's C with libFuzzer: `python -m tests.fuzz.native [NAME...] --seconds 600`.

It exists to say what each fuzzer of tests/native is made of and begins with; a short run of each, by chance
alone, is a test (tests/unit/providers/test_native_fuzz.py). By hand it needs a clang that has libFuzzer. What
a run finds interesting is kept under .cache/fuzz, and the next one begins there.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from providers.base import Artifact, ContainerSpec, FileMount, Group, Identity, ModuleKind, Preopen
from providers.wasmtime import specs
from providers.wasmtime.native import build

ROOT = Path(__file__).parents[2]
NATIVE_TESTS = ROOT / "tests" / "native"
KEPT = ROOT / ".cache" / "fuzz"
FLAGS = ("-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
COMPILERS = ("clang", *(f"clang-{version}" for version in range(30, 13, -1)))
MISSING = """no clang with libFuzzer is here: install clang and the runtime of its sanitizers
(Debian and Ubuntu: apt-get install clang libclang-rt-dev; Debian 12: clang-14 libclang-rt-14-dev)"""
ID = b"0123456789abcdef" * 4


def _spec(kind: ModuleKind = ModuleKind.MODULE, **changes: object) -> bytes:
    values: dict[str, object] = {"labels": {}, "args": (), "env": (), "log_path": Path("/log")}
    values |= changes
    spec = ContainerSpec(id="0" * 64, artifact=Artifact(Path("/"), kind), **values)  # type: ignore[arg-type]
    return specs.encode(spec, Path("/stop"), (Path("/cgroup/a/tasks"),), (Preopen(Path("/proc"), "/proc"),))


def _specs() -> list[bytes]:
    return [
        _spec(),
        _spec(
            ModuleKind.COMPONENT,
            args=("guest", "argument"),
            env=(("HOME", "/"), ("EMPTY", "")),
            working_dir="/work",
            root=Path("/root"),
            preopens=(Preopen(Path("/a"), "/b", read_only=True), Preopen(Path("/c"), "/d", beneath="e/f")),
            files=(FileMount(Path("/g"), "/h", read_only=True), FileMount(Path("/i"), "/j", beneath="k")),
            identity=Identity(1, 2, (3, 4)),
            group=Group("pod", 1 << 20, 100, 10, 2, 5),
            cpu_request=10,
            memory_limit=1 << 30,
            oom_score_adj=-5,
            stdin=True,
            stdin_once=True,
            tty=True,
            network=True,
            stop_file=True,
            read_only_root=True,
        ),
        b"1073741824\0",
        b"-\0",
    ]


def _piece(text: bytes, descriptors: int = 0) -> bytes:
    """What an agent sends at once, as fuzz_protocol.c reads it; the text is of a multiple of four bytes."""
    return bytes([len(text) // 4 * 5 + descriptors]) + text


def _line(verb: bytes, container: bytes = ID) -> bytes:
    """A request, with a number that makes it one of a multiple of four bytes."""
    size = len(verb) + len(container) + 4
    return b"%s %s %s\n" % (verb, b"7" * (1 + -size % 4), container)


ENDS, READ, CONNECT, GO, UNKNOWN_CHILD, AGAIN = (bytes([number]) for number in (0, 1, 2, 3, 4, 255))


def _streams() -> list[bytes]:
    start, serve, run = (_piece(_line(verb), 3 * (verb == b"run")) for verb in (b"start", b"serve", b"run"))
    nobody, other = _line(b"start", b"b" * 64), _line(b"start", b"a" * 64)
    return [
        _piece(b"start 1 " + ID[:24]) + _piece(ID[24:] + b"\nrun"),
        _piece(b"run 123 " + ID[:40], 3) + _piece(ID[40:] + b"\nrun") + _piece(b" 124 " + ID[:59], 3),
        serve + serve + run + READ + ENDS + b"\4" + ENDS + b"\1" + _piece(_line(b"start"), 4),
        _piece(b"shutdown" + b"\n" * 4),
        run + AGAIN + b"\x32",
        _piece(_line(b"run")),
        _piece(b"x" * 200) + _piece(b"y" * 200),
        start + run + CONNECT + start + UNKNOWN_CHILD + run + GO + CONNECT + _piece(other) + READ,
        # More than there is room for: descriptors, with lines that wait and without; answers; lines.
        _piece(nobody, 3) + AGAIN + b"\x46",
        _piece(nobody * 2, 3) + AGAIN + b"\x50",
        _piece(nobody) + AGAIN + b"\x14" + UNKNOWN_CHILD * 20 + READ + UNKNOWN_CHILD,
        _piece(nobody * 2) + AGAIN + b"\x80" + UNKNOWN_CHILD * 240,
        start + _piece(nobody * 2) + (AGAIN + b"\xff" + READ) * 2,
    ]


def _attached() -> list[bytes]:
    send, connect, go, hear, reads, writes, passes, shut = (bytes([number]) for number in range(8))
    hello, resize = send + b"\6\0hello", send + b"\5\3\0\x18\0\x50"
    no_more, never, ended = (send + b"\1" + tag for tag in (b"\4", b"\5", b"\6"))
    large = send + b"\xff" + b"\0" * 254 + b"\1"
    loud = bytes([writes[0] + 31 * 8])
    return [
        b"\1" + hello + reads + writes + hear + no_more + hello + go,
        b"\3" + connect + never + hello + shut + writes + hear + reads + go,
        b"\7" + resize + hello + reads + writes + hear + connect + hello + b"\4" * 3 + go + go,
        b"\5" + hello + ended + writes + hear + no_more,
        b"\1" + connect * 40 + loud + bytes([passes[0] + 20 * 8]) + loud + hear,
        b"\1" + large * 4 + reads * 20 + ended + hello,
        b"\1" + large[:-1] + b"\xff" + send + b"\1\1" + hear,
    ]


@dataclasses.dataclass(frozen=True)
class Fuzzer:
    """What a fuzzer is linked with beside its own file, and the real messages that it begins with."""

    sources: tuple[Path, ...]
    seeds: list[bytes]

    def files(self, name: str) -> list[Path]:
        return [NATIVE_TESTS / f"fuzz_{name}.c", *self.sources]

    def write_seeds(self, directory: Path) -> list[Path]:
        directory.mkdir()
        paths = [directory / str(number) for number in range(len(self.seeds))]
        for path, seed in zip(paths, self.seeds, strict=True):
            path.write_bytes(seed)
        return paths


PROTOCOL = (
    *(build.NATIVE / name for name in ("attach.c", "records.c", "requests.c")),
    NATIVE_TESTS / "no_sandbox.c",
)
FUZZERS = {
    "spec": Fuzzer((), _specs()),
    "protocol": Fuzzer(PROTOCOL, _streams()),
    "attach": Fuzzer((), _attached()),
}
"""They read what the agent writes into a container's directory, what an agent sends to the launcher, and what
those who attach to a container send to that."""


@contextlib.contextmanager
def working_directory() -> Iterator[Path]:
    """Where a fuzzer has its files: each try makes some, so in memory if there is room for files."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vkubelet-fuzz-", dir=memory) as directory:
        yield Path(directory)


def compiler() -> str | None:
    """A clang that has libFuzzer."""
    code = "int LLVMFuzzerTestOneInput(const char *data, long size) { return data && size < 0; }"
    with tempfile.TemporaryDirectory() as directory:
        for name in filter(shutil.which, COMPILERS):
            command = [name, *FLAGS, "-x", "c", "-", "-o", f"{directory}/program"]
            if subprocess.run(command, input=code.encode(), capture_output=True, check=False).returncode == 0:
                return name
    return None


def fuzz(name: str, clang: str, options: Sequence[str]) -> int:
    """Run one fuzzer; its exit code is not 0 when it found something."""
    corpus, found = KEPT / name, KEPT / "found"
    for directory in (corpus, found):
        directory.mkdir(parents=True, exist_ok=True)
    with working_directory() as temporary:
        program, seeds = temporary / "program", temporary / "seeds"
        build.compile_program(program, FUZZERS[name].files(name), compiler=[clang], flags=FLAGS)
        FUZZERS[name].write_seeds(seeds)
        prefix = f"-artifact_prefix={found}/{name}-"
        command = [
            str(program),
            *options,
            prefix,
            "-print_final_stats=1",
            "-timeout=10",
            str(corpus),
            str(seeds),
        ]
        return subprocess.run(command, cwd=temporary, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.native", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FUZZERS)}; all when none")
    parser.add_argument("--seconds", type=int, default=600, help="for each; 600 by default")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in FUZZERS]
    if unknown:
        parser.error(f"no fuzzer is called {unknown[0]}")
    clang = compiler()
    if clang is None:
        print(f"fuzz: {MISSING}", file=sys.stderr)
        return 2
    limits = [f"-max_total_time={options.seconds}", "-max_len=4096"]
    return max(abs(fuzz(name, clang, limits)) for name in options.names or FUZZERS)


if __name__ == "__main__":
    sys.exit(main())
