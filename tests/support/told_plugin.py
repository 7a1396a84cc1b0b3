"""A device plugin as a process of its own, which has the devices that it is told to have.

It exists because a plugin can be frozen or killed only if it is a process: see device_plugin.py.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).parent


class Told:
    """The process."""

    def __init__(self, directory: Path, resource: str, endpoint: str, answer: dict[str, Any]) -> None:
        script = SUPPORT / "device_plugin.py"
        command = [sys.executable, script, directory, resource, endpoint, json.dumps(answer)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def tell(self, **devices: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(devices) + "\n")
        for line in self._process.stdout:
            if line.startswith("devices"):
                return
        raise AssertionError("the plugin ended")

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)
