"""A store whose process is killed before any of its operations on files: nothing half done is believed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from tars import TAR, layered, member

MODULE = b"\0asm\1\0\0\0" + b"the module"
PROGRAM = Path(__file__).parents[2] / "support" / "killed_store.py"


async def test_a_store_survives_a_kill_at_any_point(registry: Any, tmp_path: Path) -> None:
    config = b'{"config":{"Cmd":["x"]}}'
    registry.image("me/app:v1", MODULE, config, "application/vnd.oci.image.config.v1+json")
    registry.image("me/second:v1", MODULE + b"2")
    document = layered(registry.blob, [(f"{TAR}+gzip", [member("app.wasm", MODULE)])], Cmd=["/app.wasm"])
    registry.document("me/files:v1", document)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), str(tmp_path), registry.address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert int(output) > 50
