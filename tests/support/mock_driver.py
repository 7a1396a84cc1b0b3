"""Kubernetes' own mock of a storage driver, as a process that registers: see tests/peers/csi-driver."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from peers import build_peer
from waiting import eventually

STOP_TIMEOUT = 20.0


class MockDriver:
    """`root` is the node's directory, whose path must be short. Its volumes are called 1, 2 and 3."""

    def __init__(self, root: Path, name: str, log: Path, *, attach: bool = False) -> None:
        self.name = name
        self._root = root
        self._log = log
        self._attach = attach
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it has been told that it is registered."""
        told = self.called("NotifyRegistrationStatus")
        endpoint = self._root / "plugins" / self.name / "csi.sock"
        register = self._root / "plugins_registry" / f"{self.name}-reg.sock"
        arguments = [f"-name={self.name}", f"-endpoint={endpoint}", f"-register={register}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [build_peer("csi-driver"), *arguments, *(["-attach"] if self._attach else [])],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log.fileno(),
                start_new_session=True,
            )
        eventually(lambda: self.called("NotifyRegistrationStatus") > told, f"{self.name} is registered")
        assert self.requests("NotifyRegistrationStatus")[-1] == {"plugin_registered": True}

    def stop(self) -> None:
        """It ends in peace, and its sockets go with it."""
        if self._process is not None:
            self._process.communicate(timeout=STOP_TIMEOUT)
            self._process = None

    def kill(self) -> None:
        """It leaves its sockets."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_TIMEOUT)
        self._process = None

    def requests(self, method: str) -> list[dict[str, Any]]:
        """What it was asked by a method, in order."""
        return [line["request"] for line in self._lines() if line["method"] == method]

    def called(self, method: str) -> int:
        return len(self.requests(method))

    def volumes(self) -> list[str]:
        """What was done with volumes: `Stage`, `Publish`, `Unpublish` and `Unstage`."""
        named = [line["method"] for line in self._lines() if line["method"].endswith("Volume")]
        return [name.removeprefix("Node").removesuffix("Volume") for name in named]

    def _lines(self) -> list[dict[str, Any]]:
        if not self._log.exists():
            return []
        lines = self._log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
