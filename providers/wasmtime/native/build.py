"""Building the launcher: generated declarations, `zig cc`, one program.

It exists to be the only place that knows compiler and flags: the wheel's build hook, `make native` and
the tests (which build with sanitizers too) all come here. `python -m providers.wasmtime.native.build`
builds the launcher in place.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from providers.wasmtime import engine
from providers.wasmtime.native import declare

NATIVE = Path(__file__).parent
LAUNCHER = NATIVE.parent / "bin" / "vkubelet-launcher"
SOURCES = (
    "launcher.c",
    "again.c",
    "attach.c",
    "blocking.c",
    "calls.c",
    "children.c",
    "code.c",
    "connection.c",
    "container.c",
    "exits.c",
    "guest.c",
    "kernel.c",
    "landlock.c",
    "library.c",
    "limits.c",
    "logs.c",
    "namespaces.c",
    "network.c",
    "records.c",
    "requests.c",
    "sandbox.c",
    "seccomp.c",
    "spec.c",
    "system.c",
    "terminal.c",
    "threads.c",
    "wasi.c",
)
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wshadow",
    "-Wundef",
    "-Wvla",
    "-Wformat=2",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wpointer-arith",
    "-Wcast-align",
    "-Wwrite-strings",
    "-Wimplicit-fallthrough",
    "-Wnull-dereference",
)


class BuildError(Exception):
    """The launcher cannot be built; the text carries the compiler's words."""


def target() -> str:
    """This machine for zig: an old glibc, so that what is built runs on newer and older systems.

    2.28 is what the library of wasmtime's wheel asks for.
    """
    libc = "gnu.2.28" if platform.libc_ver()[0] == "glibc" else "musl"
    return f"{platform.machine()}-linux-{libc}"


def platform_tag() -> str:
    """The wheel platform (PEP 600, PEP 656) of what is built for `target`."""
    libc = "manylinux_2_28" if platform.libc_ver()[0] == "glibc" else "musllinux_1_2"
    return f"{libc}_{platform.machine()}"


def zig() -> list[str]:
    """The command of the C compiler that PyPI's ziglang carries."""
    return [sys.executable, "-m", "ziglang", "cc", "-target", target()]


def build_id(elf: Path) -> str:
    """The GNU build id of a shared library, in hex: its linker's hash of its contents."""
    with elf.open("rb") as file:
        # The note stands in the first pages; its name is followed by the id (elf(5), NT_GNU_BUILD_ID).
        start = file.read(65536)
    marker = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0"
    at = start.find(marker)
    if at < 0:
        raise BuildError(f"{elf} has no build id")
    return start[at + len(marker) : at + len(marker) + 20].hex()


def identity() -> str:
    """One line that names what a launcher built now would be: sources, wasmtime, engine configuration."""
    digest = hashlib.sha256()
    for path in sorted([*NATIVE.glob("*.[ch]"), NATIVE / "declare.py", Path(__file__)]):
        digest.update(path.read_bytes())
    sources = digest.hexdigest()[:16]
    return f"vkubelet-launcher {sources} wasmtime {engine.version()} engine {engine.settings_hash()}"


def generate(directory: Path) -> Path:
    """Write wasmtime_api.h and wasmtime_api.c into `directory`; returns the C file."""
    functions = declare.used_functions(path.read_text() for path in sorted(NATIVE.glob("*.c")))
    macros = {"LAUNCHER_IDENTITY": identity(), "WASMTIME_BUILD_ID": build_id(engine.library())}
    (directory / "wasmtime_api.h").write_text(declare.header(functions, macros))
    code = directory / "wasmtime_api.c"
    code.write_text(declare.source(functions))
    return code


def compile_program(
    output: Path,
    sources: Sequence[Path],
    *,
    compiler: Sequence[str] = (),
    flags: Sequence[str] = ("-O2",),
) -> None:
    """Compile and link `sources` with the generated declarations into the program `output`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vkubelet-native-") as temporary:
        directory = Path(temporary)
        generated = generate(directory)
        built = directory / "program"
        command = [
            *(compiler or zig()),
            *(
                "-std=gnu11",
                "-D_GNU_SOURCE",
                "-pthread",
                "-fno-strict-aliasing",
                "-fstack-protector-strong",
                "-fvisibility=hidden",
                "-rdynamic",
            ),
            *WARNINGS,
            *flags,
            f"-I{directory}",
            f"-I{NATIVE}",
            *map(str, [*sources, generated]),
            *("-o", str(built), "-ldl", "-Wl,-z,relro,-z,now"),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise BuildError(f"{' '.join(command)}\n{result.stdout}{result.stderr}")
        # Renamed over the old one: a launcher that runs keeps the file that it was started from.
        new = output.with_name(f".{output.name}.{os.getpid()}")
        new.write_bytes(built.read_bytes())
        new.chmod(0o755)
        new.replace(output)


def launcher(
    output: Path = LAUNCHER, *, compiler: Sequence[str] = (), flags: Sequence[str] = ("-O2", "-s")
) -> None:
    """Build the launcher as `output`. Raises BuildError."""
    compile_program(output, [NATIVE / name for name in SOURCES], compiler=compiler, flags=flags)


if __name__ == "__main__":
    launcher()
    print(LAUNCHER)
