"""What the launcher tells of the sandbox on this host."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.base import ProviderError
from providers.wasmtime import launcher


async def test_the_launcher_names_the_parts() -> None:
    found = await launcher.sandbox(launcher.PROGRAM)
    assert found["no-new-privs"] == ""
    assert all(name.strip() == name and name for name in found)


async def test_a_part_that_the_host_refuses_has_a_reason(tmp_path: Path) -> None:
    program = tmp_path / "launcher"
    program.write_text(
        "#!/bin/sh\necho no-new-privs\necho '- ipc Operation not permitted'\necho landlock-7\n"
    )
    program.chmod(0o755)
    found = await launcher.sandbox(program)
    assert found == {"no-new-privs": "", "ipc": "Operation not permitted", "landlock-7": ""}


async def test_a_launcher_that_cannot_tell_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProviderError):
        await launcher.sandbox(tmp_path / "none")
