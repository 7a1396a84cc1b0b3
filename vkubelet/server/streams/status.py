"""What the error stream of a command says at its end.

It exists because these texts are a protocol: clients take the exit code from them (cri-streaming,
remotecommand/exec.go). It must not know how a text gets to the client. Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommandStatus:
    """How a command ended: by itself with `exit_code`, or, if that is None, because of an error."""

    exit_code: int | None
    message: str = ""

    def as_json(self) -> bytes:
        """For v4 and later: a Status object."""
        if self.exit_code == 0:
            return b'{"status":"Success"}'
        status: dict[str, object] = {"status": "Failure", "message": self.message}
        if self.exit_code is None:
            status |= {"reason": "InternalError", "code": 500}
        else:
            cause = {"reason": "ExitCode", "message": str(self.exit_code)}
            status |= {"reason": "NonZeroExitCode", "details": {"causes": [cause]}}
        return json.dumps(status, separators=(",", ":"), ensure_ascii=False).encode()

    def as_text(self) -> bytes:
        """For the versions before v4: nothing for success, else the message."""
        return self.message.encode()


def exited(code: int) -> CommandStatus:
    """The command ended with `code`, 0 to 255."""
    if code == 0:
        return CommandStatus(0)
    text = f"command terminated with non-zero exit code: command terminated with exit code {code}"
    return CommandStatus(code, text)


def failed(message: str) -> CommandStatus:
    """The command could not be run, or its output not be had."""
    return CommandStatus(None, f"Internal error occurred: {message}")
