"""The one configuration of the WebAssembly engine, for the compiler in Python and the launcher in C.

It exists because code compiled ahead of time runs only in an engine configured as the compiling one was:
the table below is applied here, and the launcher's C code is generated from it, so that the two cannot
differ. It must not know what is compiled or run.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import wasmtime

SETTINGS: tuple[tuple[str, bool | int], ...] = (
    # What guests may use. Threads need memory shared between processes' threads that WASI p1 and p2
    # have no interface for; the rest is what the engine supports by default.
    ("wasmtime_config_wasm_component_model_set", True),
    ("wasmtime_config_wasm_threads_set", False),
    # A container is stopped by ending its process, so that code pays for no interruption checks.
    ("wasmtime_config_epoch_interruption_set", False),
    ("wasmtime_config_consume_fuel_set", False),
    ("wasmtime_config_debug_info_set", False),
    # A module's initial memory is mapped from the compiled file: untouched pages cost nothing.
    ("wasmtime_config_memory_init_cow_set", True),
    ("wasmtime_config_max_wasm_stack_set", 1024 * 1024),
)
"""Functions of wasmtime's C API and the value that each is called with, in order."""


@functools.cache
def version() -> str:
    """The version of the installed wasmtime package."""
    return importlib.metadata.version("wasmtime")


def library() -> Path:
    """The shared library inside the installed wasmtime package, which the launcher loads.

    Raises FileNotFoundError for an installation without one.
    """
    for file in importlib.metadata.files("wasmtime") or ():
        if file.name.startswith("_libwasmtime."):
            return Path(str(file.locate()))
    raise FileNotFoundError("the wasmtime package has no shared library for this machine")


@functools.cache
def settings_hash() -> str:
    """Names this configuration: 16 hex digits."""
    return hashlib.sha256(repr(SETTINGS).encode()).hexdigest()[:16]


@functools.cache
def host_hash() -> str:
    """Names this machine's instruction set: compiled code uses what the processor has. 16 hex digits."""
    flags = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith(("flags", "Features")):
            flags += line
            break
    return hashlib.sha256(flags.encode()).hexdigest()[:16]


def engine() -> wasmtime.Engine:
    """An engine with this configuration.

    The library is loaded here and not with this module: the agent compiles in other processes.
    """
    import wasmtime
    from wasmtime import _bindings

    config = wasmtime.Config()
    for name, value in SETTINGS:
        getattr(_bindings, name)(config.ptr(), value)
    return wasmtime.Engine(config)
