"""A node with credential provider plugins, which are scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vkubelet.api.objects import Pod
from vkubelet.config import Config
from vkubelet.pods.images.credential_provider_config import load
from vkubelet.pods.images.credential_providers import Account, CredentialProviders, ProviderFailedError

V1 = "credentialprovider.kubelet.k8s.io/v1"


def provider(**changes: Any) -> dict[str, Any]:
    return {
        "name": "plugin",
        "apiVersion": V1,
        "matchImages": ["r.io"],
        "defaultCacheDuration": "1m",
    } | changes


class Accounts:
    """The API server's service accounts; every pod has a token of its own."""

    def __init__(self) -> None:
        self.annotations: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.failure = ""

    async def of(self, pod: Pod, audience: str) -> Account:
        self.asked.append((pod.spec.service_account_name, audience))
        if self.failure:
            raise ProviderFailedError(self.failure)
        name = pod.spec.service_account_name
        return Account("ns", name, f"uid-{name}", self.annotations, f"token-of-{pod.metadata.uid}")

    def forget(self, pod: Pod) -> None:
        self.asked.append((pod.metadata.uid, "forgotten"))


class World:
    """A node with plugins; what they are asked is in files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.accounts = Accounts()
        self.now = 100.0

    def configured(self, *providers: dict[str, Any], version: str = "kubelet.config.k8s.io/v1") -> Config:
        file, programs = self.directory / "config.yaml", self.directory / "bin"
        programs.mkdir(exist_ok=True)
        document = {"apiVersion": version, "kind": "CredentialProviderConfig", "providers": providers}
        file.write_text(json.dumps(document))
        return Config(
            image_credential_provider_config=str(file), image_credential_provider_bin_dir=str(programs)
        )

    def script(self, text: str, name: str = "plugin") -> None:
        program = self.directory / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    def answers(self, answer: object, name: str = "plugin") -> None:
        """Have a plugin that writes down what it is asked and says this."""
        (self.directory / f"{name}.answer").write_text(json.dumps(answer))
        self.script(f"cat >> {self.directory}/{name}.asked; cat {self.directory}/{name}.answer", name)

    def asked(self, name: str = "plugin") -> list[dict[str, Any]]:
        path = self.directory / f"{name}.asked"
        text = path.read_text() if path.exists() else ""
        return [json.loads(one) for one in text.replace("}{", "}\n{").splitlines()]

    def plugins(self, *providers: dict[str, Any]) -> CredentialProviders:
        config = self.configured(*providers)
        return CredentialProviders(
            load(config), Path(config.image_credential_provider_bin_dir), self.accounts, lambda: self.now
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
