"""Every command of the README is run as it stands there, in its order, on a clean state directory."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vkubelet.pods.volumes import removal

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
# What a CI run is itself, or what would tell another story on another machine.
NOT_HERE = ("git clone", "make test", "make bench", "make lock")


def commands() -> list[str]:
    """The lines after `$ `, with the lines that continue them, in the README's order."""
    found: list[str] = []
    for block in BLOCK.findall((ROOT / "README.md").read_text()):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(line[2:])
            elif line.startswith("> "):
                found[-1] += "\n" + line[2:]
    return [command for command in found if not command.startswith(NOT_HERE)]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """One shell for all commands, as a reader has; what it started is ended with it."""
    environment = os.environ | {
        "VKUBELET_DEV_DIR": str(tmp_path / "dev"),
        "HOME": str(tmp_path),
        "VKUBELET_CACHE_DIR": os.environ.get("VKUBELET_CACHE_DIR", str(Path.home() / ".cache" / "vkubelet")),
    }
    process = subprocess.Popen(
        ["bash", "--norc"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.kill()
    process.wait()
    try:
        subprocess.run([ROOT / ".venv" / "bin" / "vkubelet", "dev", "reset"], env=environment, check=True)
    finally:
        removal.remove(tmp_path / "dev")  # what a node that had to be killed left mounted


def run(shell: subprocess.Popen[str], command: str) -> tuple[int, str]:
    """Run one command in the shell; its exit code and output."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n===%s===\\n' $?\n")
    shell.stdin.flush()
    output = ""
    for line in shell.stdout:
        end = re.fullmatch(r"===(\d+)===\n", line)
        if end is not None:
            return int(end[1]), output
        output += line
    raise AssertionError(f"the shell ended in {command!r}: {output}")


def test_the_readme_works(shell: subprocess.Popen[str]) -> None:
    all_commands = commands()
    assert len(all_commands) > 10
    for command in all_commands:
        code, output = run(shell, command)
        assert code == 0, f"{command}\n{output}"
