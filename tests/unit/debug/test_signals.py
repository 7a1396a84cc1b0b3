"""What the agent tells when it is signalled."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

from vkubelet.debug import signals
from vkubelet.debug.state import Diagnosis
from vkubelet.pods.insight import PodInsight


@pytest.fixture(autouse=True)
def _ignored_afterwards() -> object:
    """What is set for a process that ends is not left to the tests that follow."""
    yield
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    return None


async def written(path: Path) -> dict[str, object]:
    await until(path.exists)
    return await asyncio.to_thread(lambda: dict(json.loads(path.read_bytes())))


async def test_the_state_is_written_for_its_owner_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    diagnosis = Diagnosis()
    path = tmp_path / signals.FILE
    with caplog.at_level(logging.INFO), signals.answered(diagnosis, tmp_path):
        os.kill(os.getpid(), signal.SIGUSR1)
        before = await written(path)
        assert (before["pods"], before["queues"]) == ([], {})
        path.unlink()
        pod = PodInsight("default", "web", "u", "Running", 1.0, ("news",), "mounted", ())
        diagnosis.tell_of(lambda: [pod], {"statuses": lambda: {"due": 2}})
        os.kill(os.getpid(), signal.SIGUSR1)
        found = await written(path)
    assert found["queues"] == {"statuses": {"due": 2}}
    assert "web" in json.dumps(found["pods"])
    assert found["process"] == os.getpid()
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [signals.FILE]  # noqa: PTH208
    assert f"state written to {path}" in caplog.text


async def test_a_disk_that_does_not_take_it_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with signals.answered(Diagnosis(), tmp_path / "none"):
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: "state not written" in caplog.text)
    assert "0 pods" in caplog.text


BLOCKED = """
import asyncio, sys, time
from pathlib import Path
from vkubelet.debug import signals
from vkubelet.debug.state import Diagnosis

async def main():
    with signals.answered(Diagnosis(), Path(sys.argv[1])):
        stuck()

def stuck():
    print("ready", flush=True)
    time.sleep(60)

asyncio.run(main())
"""


def test_a_blocked_loop_shows_its_stack(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGUSR2)
            shown = b""
            while b"in main\n" not in shown:
                line = process.stderr.readline()
                assert line, shown
                shown += line
            assert b"in stuck\n" in shown
            assert process.poll() is None
        finally:
            process.kill()
