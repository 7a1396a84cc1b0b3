"""Building the toolbox, the WebAssembly module in deploy/toolbox, and putting it where the node looks for it.

It exists because the module is no part of the repository: `make toolbox`, the wheel's build hook and the
tests come here, `python -m vkubelet.dev.toolbox` builds it in place. The shell that it is made with has
in-process pipes for one kind of WebAssembly and those of a system for all else. WASI has no pipes: a
copy of that package, made for each build and never kept, gets our pipes for WASI in place of the system's.

The module is a snapshot of the program when Go's runtime and all packages have begun, which takes longer than
most commands do. Go's runtime and its package syscall get a file each (an overlay), by which they begin again
with what differs from one instance to the next.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import wasmtime

from vkubelet.dev.goprogram import Program, Run, built, required
from vkubelet.dev.layout import DevError, default_cache
from vkubelet.dev.report import Report
from vkubelet.dev.snapshot import SnapshotError, snapshot
from vkubelet.dev.toolchain import toolchain
from vkubelet.toolbox import DESCRIPTION, MODULE, PACKAGE, Toolbox, ToolboxError

SOURCES = Path(__file__).parents[2] / "deploy" / "toolbox"
KEPT = 3
_MADE_BY = (Path(__file__), Path(__file__).with_name("snapshot.py"))
_OVERLAY = "overlay.json"
_AWAKENED = ("runtime", "syscall")
"""Packages of Go's own that get a file of ours."""
_INTERPRETER = Path("vendor/mvdan.cc/sh/v3/interp")
_EDITS = (
    # The system's pipes are not for WASI, which gets the files of `vendored/interp`.
    ("stdin_os.go", "//go:build !js\n", "//go:build !js && !wasip1\n"),
    # What `$0` is where no script is run.
    ("vars.go", 'vr.Str = "gosh"', 'vr.Str = "sh"'),
)


def build(directory: Path = PACKAGE, report: Report | None = None, cache: Path | None = None) -> Path:
    """Build the toolbox if need be, and put it and its description into `directory`. Raises DevError.

    The description is written last: it is what vouches for the module.
    """
    if not SOURCES.is_dir():
        raise DevError("the toolbox is built from a source tree of vkubelet; this is none")
    report = report or Report()
    cache = cache or Path(os.environ.get("VKUBELET_CACHE_DIR") or default_cache())
    go = toolchain(cache, required((SOURCES / "go.mod").read_text(), r"^go (\S+)$"), report)
    program = Program(
        name="toolbox",
        title="the toolbox",
        announcement="Building the toolbox: less than a minute, then cached.",
        sources=SOURCES,
        flags=(
            "-trimpath",
            "-buildvcs=false",
            "-ldflags=-s -w",
            "-buildmode=c-shared",
            "-tags=snapshot",
            f"-overlay={_OVERLAY}",
        ),
        kept=KEPT,
        target={"GOOS": "wasip1", "GOARCH": "wasm"},
        prepared=functools.partial(vendored, Path(go.root)),
        finished=_finished,
        version=hashlib.sha256(b"".join(file.read_bytes() for file in _MADE_BY)).hexdigest(),
    )
    module = built(program, go, cache, report).read_bytes()
    digest = f"sha256:{hashlib.sha256(module).hexdigest()}"
    try:
        if Toolbox(directory).module().digest == digest:
            os.utime(directory / DESCRIPTION)  # for make
            return directory / MODULE
    except ToolboxError:
        report.step(f"Putting the toolbox into {directory}")
    description = {"digest": digest, "applets": applets(module)}
    _put(directory / MODULE, module)
    _put(directory / DESCRIPTION, (json.dumps(description, indent=1) + "\n").encode())
    return directory / MODULE


def applets(module: bytes) -> list[str]:
    """The commands that the module has, as it lists them itself."""
    config = wasmtime.Config()
    config.cranelift_opt_level = "none"  # for one run: compiling is to be fast, not the code
    engine = wasmtime.Engine(config)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    compiled = wasmtime.Module(engine, module)
    for needed in compiled.imports:
        if needed.module != "wasi_snapshot_preview1":
            linker.define_func(needed.module, str(needed.name), needed.type, _refused)
    store = wasmtime.Store(engine)
    with tempfile.NamedTemporaryFile() as output:
        wasi = wasmtime.WasiConfig()
        wasi.argv = ["toolbox", "--list"]
        wasi.stdout_file = output.name
        store.set_wasi(wasi)
        try:
            linker.instantiate(store, compiled).exports(store)["_start"](store)
        except wasmtime.ExitTrap as end:
            if end.code != 0:
                raise DevError(f"the toolbox cannot tell what is in it: it ended with {end.code}") from end
        return sorted(output.read().decode().split())


def _refused(*_: int) -> int:
    """A function of the host that a list does not need: EBADF of WASI."""
    return 8


@contextmanager
def vendored(root: Path, sources: Path, run: Run) -> Iterator[Path]:
    """A copy of the sources with the modules that they need, and our changes to one of those and to Go's own.

    Go is in the directory `root`.
    """
    with tempfile.TemporaryDirectory(prefix="vkubelet-toolbox-") as temporary:
        directory = Path(temporary) / "toolbox"
        shutil.copytree(sources, directory)
        vendor(directory, run)
        added = {
            str(root / "src" / package / file.name): str(file)
            for package in _AWAKENED
            for file in (directory / "vendored" / package).iterdir()
        }
        (directory / _OVERLAY).write_text(json.dumps({"Replace": added}))
        yield directory


def _finished(module: bytes) -> bytes:
    try:
        return snapshot(module, "_initialize", "wake")
    except SnapshotError as error:
        raise DevError(f"the toolbox cannot be made to begin later: {error}") from error


def vendor(directory: Path, run: Run) -> None:
    """Get the modules that the sources in `directory` need, and change the shell among them for WASI."""
    run("mod", "vendor", cwd=directory)
    for name, old, new in _EDITS:
        edit(directory / _INTERPRETER / name, old, new)
    for file in (SOURCES / "vendored" / "interp").iterdir():
        shutil.copy(file, directory / _INTERPRETER)


def edit(file: Path, old: str, new: str) -> None:
    """Replace what must stand in `file` exactly once. Raises DevError where it does not."""
    text = file.read_text()
    if text.count(old) != 1:
        raise DevError(
            f"{file.name} of the shell's interpreter is not as expected: {old.strip()!r} is not in it once"
        )
    file.chmod(0o644)
    file.write_text(text.replace(old, new))


def _put(file: Path, content: bytes) -> None:
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.write_bytes(content)
    fresh.replace(file)


if __name__ == "__main__":
    print(build())
