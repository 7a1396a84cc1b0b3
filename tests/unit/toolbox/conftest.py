"""The real module, built from its sources, over real directories."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import wasmtime
from toolbox_guest import environment

from providers.wasmtime.engine import engine
from vkubelet.dev import toolbox as building
from vkubelet.toolbox import PACKAGE

GUEST = Path(__file__).parents[2] / "support" / "toolbox_guest.py"


@dataclass(frozen=True)
class Result:
    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        assert self.status == 0, self.err
        assert self.err == ""
        return self.out.decode()


@dataclass(frozen=True)
class Guest:
    """A container's files, and the toolbox in it."""

    compiled: Path
    root: Path

    def command(
        self, *args: str, env: Mapping[str, str] | None = None, mounts: Mapping[str, Path] | None = None
    ) -> list[str]:
        everywhere = {"/": str(self.root), **{guest: str(host) for guest, host in (mounts or {}).items()}}
        settings = {"mounts": everywhere, "env": {"PATH": "/usr/bin:/bin", "PWD": "/", **(env or {})}}
        return [sys.executable, str(GUEST), str(self.compiled), json.dumps(settings), *args]

    def run(
        self,
        *args: str,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        mounts: Mapping[str, Path] | None = None,
    ) -> Result:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            self.command(*args, env=env, mounts=mounts),
            input=given,
            capture_output=True,
            env=environment(),
            timeout=120,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr.decode())

    def sh(self, script: str, *args: str, stdin: bytes | str = b"") -> Result:
        return self.run("sh", "-c", script, "sh", *args, stdin=stdin)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Path:
    module = building.build(PACKAGE)
    code = tmp_path_factory.mktemp("toolbox") / "toolbox.cwasm"
    code.write_bytes(wasmtime.Module.from_file(engine(), str(module)).serialize())
    return code


@pytest.fixture
def guest(compiled, tmp_path) -> Guest:
    root = tmp_path / "root"
    root.mkdir()
    return Guest(compiled, root)
