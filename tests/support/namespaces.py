"""A namespace of one test's own, and kubectl in it."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from typing import Any

import yaml

from vkubelet.dev import kubectl

TOLERATION = {"key": "kubernetes.io/arch", "operator": "Equal", "value": "wasm32-wasi"}


def pod_spec(image: str, *args: str, **more: Any) -> dict[str, Any]:
    container = {"name": "main", "image": image, "args": list(args), **more.pop("container", {})}
    return {
        "containers": [container, *more.pop("others", [])],
        "tolerations": [TOLERATION],
        "nodeSelector": {"kubernetes.io/arch": "wasm32-wasi"},
        **more,
    }


@dataclass
class Namespace:
    """A namespace of one test's own, and kubectl in it."""

    cluster: Any
    name: str

    def kubectl(self, *arguments: str, **options: Any) -> str:
        result: str = self.cluster.kubectl("--namespace", self.name, *arguments, **options)
        return result

    def create(self, kind: str, name: str, spec: dict[str, Any], api: str = "v1") -> None:
        self.make(kind, name, api, spec=spec)

    def make(self, kind: str, name: str, api: str = "v1", **fields: Any) -> None:
        """Create an object that has these fields beside its metadata."""
        document = {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **fields}
        self.kubectl("create", "--filename", "-", input=yaml.safe_dump(document))

    def pod(self, name: str, image: str, *args: str, **more: Any) -> None:
        self.create("Pod", name, pod_spec(image, *args, **more))

    def wait(self, what: str, condition: str, timeout: int = 60) -> None:
        self.kubectl("wait", what, f"--for={condition}", f"--timeout={timeout}s", timeout=timeout + 30)

    def get(self, what: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.kubectl("get", what, "--output=json"))
        return result

    def status(self, pod: str) -> dict[str, Any]:
        result: dict[str, Any] = self.get(f"pod/{pod}")["status"]
        return result

    def wait_reason(self, pod: str, reason: str, state: str = "waiting") -> dict[str, Any]:
        """Wait until the first container's state has that reason; returns the state."""
        path = f"{{.status.containerStatuses[0].state.{state}.reason}}"
        self.wait(f"pod/{pod}", f"jsonpath={path}={reason}")
        result: dict[str, Any] = self.status(pod)["containerStatuses"][0]["state"][state]
        return result

    def wait_event(self, pod: str, reason: str, timeout: int = 60) -> str:
        """Wait until there is an event of that reason about the pod; returns its message."""
        selector = f"involvedObject.name={pod},reason={reason}"
        command = ["get", "events", f"--field-selector={selector}", "--watch", "--output-watch-events"]
        with subprocess.Popen(
            [
                kubectl.binary(),
                f"--namespace={self.name}",
                f"--request-timeout={timeout}s",
                *command,
                "--output=json",
            ],
            env=kubectl.environment(self.cluster.kubeconfig),
            stdout=subprocess.PIPE,
            text=True,
        ) as watching:
            assert watching.stdout is not None
            decoder, text = json.JSONDecoder(), ""
            for line in watching.stdout:
                text += line
                try:
                    event, _ = decoder.raw_decode(text)
                except json.JSONDecodeError:
                    continue
                watching.terminate()
                message: str = event["object"]["message"]
                return message
        raise AssertionError(f"no event {reason} of pod {pod} in {timeout} s")


def encoded(text: str) -> str:
    """A secret's value, as its `data` has it."""
    return base64.b64encode(text.encode()).decode()
