"""The toolbox as a process of its own: `toolbox_guest.py COMPILED SETTINGS ARG...`, SETTINGS being JSON.

It gives the module what the node's launcher gives it, a terminal included where standard input is one, so
that the toolbox can be tried without the launcher. SETTINGS: `mounts`, from guest to host path, and `env`.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import sys
import termios
import tty
from pathlib import Path

import wasmtime

from providers.wasmtime.engine import engine

NO_TERMINAL = 59
"""ENOTTY of WASI."""
NO_ENTRY = 44
"""ENOENT of WASI."""


def environment() -> dict[str, str]:
    """What the process that runs this file needs to find the project's packages."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends an instance
    compiled, settings = sys.argv[1], json.loads(sys.argv[2])
    using = engine()
    module = wasmtime.Module.deserialize_file(using, compiled)
    linker = wasmtime.Linker(using)
    linker.define_wasi()
    store = wasmtime.Store(using)
    i32 = wasmtime.ValType.i32()
    is_terminal = os.isatty(0)
    cooked = termios.tcgetattr(0) if is_terminal else None

    def set_raw(raw: int) -> int:
        if cooked is None:
            return NO_TERMINAL
        if raw:
            tty.setraw(0, termios.TCSADRAIN)
        else:
            termios.tcsetattr(0, termios.TCSADRAIN, cooked)
        return 0

    def get_size(rows: int, columns: int) -> int:
        if cooked is None:
            return NO_TERMINAL
        size = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))
        memory = exports["memory"]
        memory.write(store, struct.pack("<I", size[0]), rows)
        memory.write(store, struct.pack("<I", size[1]), columns)
        return 0

    def host_path(at: int, length: int) -> str:
        path = exports["memory"].read(store, at, at + length).decode()
        mounts: dict[str, str] = settings["mounts"]
        inside = [m for m in mounts if m == "/" or path == m or path.startswith(f"{m}/")]
        mount = max(inside, key=len)
        return f"{mounts[mount]}/{path.removeprefix(mount.rstrip('/'))}"

    def attributes(at: int, length: int, follow: int, result: int) -> int:
        try:
            found = (os.stat if follow else os.lstat)(host_path(at, length))
        except OSError:
            return NO_ENTRY
        told = struct.pack("<4I", found.st_mode, found.st_uid, found.st_gid, 0)
        exports["memory"].write(store, told, result)
        return 0

    def space(at: int, length: int, result: int) -> int:
        found = os.statvfs(host_path(at, length))
        blocks = (found.f_blocks, found.f_bfree, found.f_bavail)
        told = struct.pack("<3Q", *(count * found.f_frsize for count in blocks))
        exports["memory"].write(store, told, result)
        return 0

    def set_mode(at: int, length: int, mode: int) -> int:
        try:
            os.chmod(host_path(at, length), mode)  # noqa: PTH101
        except OSError:
            return NO_ENTRY
        return 0

    def identity(ids: int, capacity: int, count: int) -> int:
        own = [os.geteuid(), os.getegid(), *os.getgroups()]
        exports["memory"].write(store, struct.pack(f"<{len(own)}I", *own)[: 4 * capacity], ids)
        exports["memory"].write(store, struct.pack("<I", len(own)), count)
        return 0

    # wasmtime's own refuses what a shell has to say: the statuses from 126 on.
    linker.allow_shadowing = True
    exits = wasmtime.FuncType([i32], [])
    linker.define_func("wasi_snapshot_preview1", "proc_exit", exits, lambda status: os._exit(status & 0xFF))
    linker.define_func("vkubelet_terminal", "set_raw", wasmtime.FuncType([i32], [i32]), set_raw)
    linker.define_func("vkubelet_terminal", "get_size", wasmtime.FuncType([i32, i32], [i32]), get_size)
    for name, function, parameters in (
        ("attributes", attributes, 4),
        ("set_mode", set_mode, 3),
        ("identity", identity, 3),
        ("space", space, 3),
    ):
        linker.define_func("vkubelet_system", name, wasmtime.FuncType([i32] * parameters, [i32]), function)
    wasi = wasmtime.WasiConfig()
    wasi.argv = sys.argv[3:]
    wasi.env = list(settings["env"].items())
    wasi.inherit_stdin()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    for guest, host in settings["mounts"].items():
        wasi.preopen_dir(host, guest)
    store.set_wasi(wasi)
    exports = linker.instantiate(store, module).exports(store)
    exports["_start"](store)


if __name__ == "__main__":
    main()
