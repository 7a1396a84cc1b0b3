"""kubectl in one of its two streaming modes, against a pod that is there to be talked to."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from providers.wasmtime import specs
from vkubelet.dev import kubectl

TIMEOUT = 90.0


@dataclass(frozen=True)
class Mode:
    """What kubectl speaks, and what the API server passes on of it to a node that can do both."""

    kubectl_speaks_websocket: bool
    extend_websockets_to_kubelet: bool

    def environment(self) -> Mapping[str, str]:
        text = str(self.kubectl_speaks_websocket).lower()
        return {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": text, "KUBECTL_PORT_FORWARD_WEBSOCKETS": text}


MODES = {
    "websocket": Mode(kubectl_speaks_websocket=True, extend_websockets_to_kubelet=True),
    # What API servers before 1.36 do: they translate to SPDY, or pass it on as it comes.
    "translated": Mode(kubectl_speaks_websocket=True, extend_websockets_to_kubelet=False),
    "spdy": Mode(kubectl_speaks_websocket=False, extend_websockets_to_kubelet=False),
}

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeName: {node}
  tolerations: [{{operator: Exists}}]
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: {image}
      args: [write, /greeting=hello from main, write, /motto=wasm everywhere, print, ready, sleep, "86400"]
      env: [{{name: COLOUR, value: green}}]
    - {{name: second, image: {image}, args: [sleep, "86400"]}}
    - {{name: ended, image: {image}, args: [print, "gone"]}}
    - {{name: hearing, image: {image}, stdin: true, args: [print, listening, hear, sleep, "86400"]}}
    - {{name: once, image: {image}, stdin: true, stdinOnce: true, args: [hear, sleep, "86400"]}}
    - {{name: terminal, image: {image}, stdin: true, tty: true, args: [print, listening, hear, exit, "3"]}}
"""

SHORT = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeName: {node}
  tolerations: [{{operator: Exists}}]
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers: [{{name: main, image: {image}, stdin: {stdin}, args: [{args}]}}]
"""


@dataclass(frozen=True)
class Talk:
    """A pod with a container for each way to talk to one."""

    mode: str
    kubeconfig: Path
    pod: str
    node: str
    image: str
    node_directory: Path

    @property
    def environment(self) -> Mapping[str, str]:
        return {**kubectl.environment(self.kubeconfig), **MODES[self.mode].environment()}

    def command(self, *arguments: str) -> list[str]:
        return [kubectl.binary(), *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.command(*arguments), env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe
        )

    def run(self, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )

    def kubectl(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def exec(
        self, container: str, *command: str, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        options = ["-i"] if stdin is not None else []
        return self.run("exec", *options, self.pod, "-c", container, "--", *command, stdin=stdin)

    @contextlib.contextmanager
    def another_pod(self, name: str, *args: str, stdin: bool = False) -> Iterator[str]:
        """A Ready pod whose one container does as `args` say."""
        name = f"{name}-{self.mode}"
        words = ", ".join(f'"{word}"' for word in args)
        manifest = SHORT.format(
            name=name, node=self.node, image=self.image, args=words, stdin=str(stdin).lower()
        )
        self.apply(name, manifest)
        try:
            yield name
        finally:
            self.kubectl("delete", "pod", name, "--ignore-not-found", "--wait=false")

    def apply(self, pod: str, manifest: str) -> None:
        """Make a pod, and return when all that is to run of it does."""
        done = self.run("apply", "-f", "-", stdin=manifest.encode())
        assert done.returncode == 0, done.stderr
        condition = "--for=jsonpath={.status.containerStatuses[0].state.running}"
        self.kubectl("wait", f"pod/{pod}", condition, "--timeout=90s")

    def logs(self, container: str, until: str, pod: str = "") -> str:
        """The log, followed until a line holds `until`."""
        seen = ""
        with self.start("logs", "-f", pod or self.pod, "-c", container) as following:
            assert following.stdout is not None
            try:
                for line in following.stdout:
                    seen += line.decode()
                    if until in line.decode():
                        break
            finally:
                following.kill()
        assert until in seen, seen
        return seen

    def instances(self) -> list[Path]:
        """Directories of instances, which are there as long as one runs."""
        found = []
        for path in (self.node_directory / "run" / "wasmtime" / "containers").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if specs.decode(path.name, (path / "spec").read_bytes()).log_path is None:
                    found.append(path)
        return found

    def nothing_runs(self) -> None:
        """No instance is left, within a deadline: a client's end reaches the node in its own time."""
        deadline = time.monotonic() + TIMEOUT
        while left := self.instances():
            assert time.monotonic() < deadline, left
            os.sched_yield()
