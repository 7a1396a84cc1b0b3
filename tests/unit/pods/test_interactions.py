"""Talking to running containers: who is meant, what a command becomes, and what is left of it."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_node import Setting, pods_of_a_node

from providers.base import ContainerSpec
from vkubelet.api.objects import Pod
from vkubelet.pods.commands import Commands
from vkubelet.pods.interaction import CommandError, ForwardError, InteractionError, Target, Wanted
from vkubelet.pods.interactions import PodInteractions
from vkubelet.toolbox import Toolbox

ALL = Wanted(stdin=True, stdout=True, stderr=True, tty=False)
TTY = Wanted(stdin=True, stdout=True, stderr=False, tty=True)
WEB = Target("ns", "p", None, "a")


@dataclasses.dataclass
class Talk:
    setting: Setting
    interactions: PodInteractions
    private: Path

    @property
    def container(self) -> ContainerSpec:
        return self.setting.provider.started[0]

    @property
    def root(self) -> Path:
        return self.setting.provider.root(self.container.id)

    async def run(self, *command: str, wanted: Wanted = ALL) -> ContainerSpec:
        async with self.interactions.exec(WEB, command, wanted) as running:
            await running.wait()
        return self.setting.provider.ran[-1]


def pod(**container: Any) -> Pod:
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"containers": [{"name": "a", "image": "registry.example/web", **container}]},
    }
    return msgspec.convert(document, Pod)


@pytest.fixture
def toolbox(tmp_path: Path) -> Toolbox:
    directory = tmp_path / "toolbox"
    directory.mkdir()
    (directory / "toolbox.wasm").write_bytes(b"\0asm toolbox")
    digest = "sha256:" + hashlib.sha256((directory / "toolbox.wasm").read_bytes()).hexdigest()
    (directory / "toolbox.json").write_text(json.dumps({"digest": digest, "applets": ["sh", "ps"]}))
    return Toolbox(directory)


@pytest.fixture
async def talk(tmp_path: Path, toolbox: Toolbox) -> AsyncIterator[Talk]:
    async with pods_of_a_node(tmp_path, toolbox) as setting:
        private = tmp_path / "private"
        private.mkdir()
        provider: Any = setting.provider
        interactions = PodInteractions(setting.manager, provider, Commands(provider, toolbox, private))
        setting.manager.on_change(pod(env=[{"name": "A", "value": "1"}], command=["/app", "x"]))
        await setting.told.until(lambda: setting.phase() == "Running")
        made = Talk(setting, interactions, private)
        made.root.mkdir(parents=True)
        yield made


async def test_the_own_module_runs_beside_its_container(talk: Talk) -> None:
    ran = await talk.run("app", "-v")
    container = talk.container
    assert ran.artifact == container.artifact
    assert ran.args == ("app", "-v")
    assert (ran.env, ran.labels, ran.memory_limit) == (
        container.env,
        container.labels,
        container.memory_limit,
    )
    assert (ran.root, ran.log_path) == (talk.root, None)
    assert ran.id != container.id


async def test_an_applet_in_a_container_of_the_toolbox_sees_its_pod_once(talk: Talk) -> None:
    first = await talk.run("ps")
    talk.setting.provider.started[0] = dataclasses.replace(
        talk.setting.provider.started[0], preopens=first.preopens
    )
    assert (await talk.run("ps")).preopens == first.preopens


async def test_an_applet_sees_its_pod(talk: Talk) -> None:
    ran = await talk.run("ps")
    module, digest = talk.setting.provider.prepared[-1]
    assert (module.name, digest[:7]) == ("toolbox.wasm", "sha256:")
    _, shown = ran.preopens  # the first is the container's own, for its termination message
    assert (shown.guest, shown.read_only) == ("/.vkubelet/pod", True)
    (row,) = json.loads((shown.host / "containers.json").read_text())
    assert (row["container"], row["state"], row["restarts"]) == ("a", "running", 0)
    assert row["command"] == ["/app", "x"]
    talk.setting.provider.end(talk.container.id, 3)
    await talk.setting.told.until(lambda: len(talk.setting.provider.started) == 2)
    await talk.setting.told.until(
        lambda: json.loads((shown.host / "containers.json").read_text())[0]["restarts"] == 1
    )
    deleted = msgspec.convert(
        {
            **msgspec.to_builtins(pod()),
            "metadata": {
                "name": "p", "namespace": "ns", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"
            },
        },
        Pod,
    )  # fmt: skip
    talk.setting.manager.on_change(deleted)
    await talk.setting.told.until(lambda: talk.setting.told.finished)
    async with asyncio.timeout(10):
        while talk.setting.manager.find("ns", "p", None) is not None:
            await talk.setting.provider.removed.wait()
            await asyncio.sleep(0)
    assert not shown.host.exists()


async def test_a_module_of_the_container_is_compiled_from_a_copy_that_goes(talk: Talk) -> None:
    (talk.root / "tool.wasm").write_bytes(b"\0asm mine")
    ran = await talk.run("/tool.wasm")
    module, digest = talk.setting.provider.prepared[-1]
    assert module.parent == talk.private
    assert digest == "sha256:" + hashlib.sha256(b"\0asm mine").hexdigest()
    assert [shown.guest for shown in ran.preopens] == ["/dev"]
    assert list(talk.private.iterdir()) == []


async def test_a_terminal_says_what_it_is(talk: Talk) -> None:
    ran = await talk.run("app", wanted=TTY)
    assert ran.tty
    assert ("TERM", "xterm") in ran.env


async def test_what_is_not_found_is_said_as_a_runtime_says_it(talk: Talk) -> None:
    with pytest.raises(CommandError, match='exec: "bash": executable file not found in'):
        await talk.run("bash")
    assert talk.setting.provider.ran == []


async def test_without_a_toolbox_the_reason_is_told(talk: Talk, tmp_path: Path) -> None:
    provider: Any = talk.setting.provider
    commands = Commands(provider, Toolbox(tmp_path / "nothing"), talk.private)
    bare = PodInteractions(talk.setting.manager, provider, commands)
    with pytest.raises(CommandError, match="this installation of vkubelet has no toolbox"):
        async with bare.exec(WEB, ("sh",), ALL):
            raise AssertionError("there is no shell")


async def test_a_toolbox_that_was_changed_is_not_run(talk: Talk, tmp_path: Path) -> None:
    (tmp_path / "toolbox" / "toolbox.wasm").write_bytes(b"\0asm other")
    with pytest.raises(CommandError, match="is not what was built"):
        await talk.run("sh")


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        (Target("ns", "other", None, "a"), 404, "pod does not exist"),
        (Target("other", "p", None, "a"), 404, "pod does not exist"),
        (Target("ns", "p", "another", "a"), 404, "pod does not exist"),
        (Target("ns", "p", None, "b"), 500, 'container not found ("b")'),
    ],
)
async def test_who_is_not_there(talk: Talk, target: Target, status: int, message: str) -> None:
    with pytest.raises(InteractionError) as refused:
        talk.interactions.check(target)
    assert (refused.value.status, str(refused.value)) == (status, message)
    with pytest.raises(InteractionError, match=message.partition("(")[0]):
        async with talk.interactions.exec(target, ("sh",), ALL):
            raise AssertionError("nobody is there")


async def test_a_uid_that_is_the_pods_is_found(talk: Talk) -> None:
    talk.interactions.check(Target("ns", "p", "u", "a"))
    talk.interactions.check_pod("ns", "p", "u")
    assert not talk.interactions.has_tty(WEB)


async def test_a_finished_container_is_not_found(talk: Talk) -> None:
    held = asyncio.Event()
    talk.setting.provider.before_start = lambda _: held.wait()
    talk.setting.provider.end(talk.container.id, 0)
    with pytest.raises(InteractionError, match=r'container not found \("a"\)'):
        talk.interactions.check(WEB)
    with pytest.raises(InteractionError, match="pod not found"):
        talk.interactions.check_pod("ns", "p", None)
    held.set()


async def test_a_port_that_no_process_of_the_pod_listens_on(talk: Talk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(ForwardError, match="connection refused"):
            await talk.interactions.connect("ns", "p", None, port)
    with pytest.raises(ForwardError, match="pod does not exist"):
        await talk.interactions.connect("ns", "nobody", None, 80)
