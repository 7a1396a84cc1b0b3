"""What an earlier version left on a node, which this one must take over: tests/states/VERSION.

The directories were made by the code of that time, with all that a node keeps of its pods. Where a format
changes, another directory is added here, and this one stays.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from providers.base import ContainerState, Exit, ExitReason, Identity
from providers.wasmtime.adoption import Found, scan
from providers.wasmtime.directory import RunDirectory
from providers.wasmtime.provider import WasmtimeProvider
from vkubelet.deviceplugins.checkpoint import CheckpointFile
from vkubelet.node.identity import instance_id
from vkubelet.pods import records
from vkubelet.pods.allocation_files import AllocationFiles
from vkubelet.pods.images.access import AccessFiles
from vkubelet.pods.resources import Applied
from vkubelet.pods.volumes.csi.records import Records
from vkubelet.pods.volumes.layout import Layout

STATES = Path(__file__).parents[1] / "states"
UID = "0c737688-3ef4-49c5-9afa-3b1a68a34407"
RUNS, ENDED = "1" * 64, "2" * 64
BEGAN = 1795656000 * 10**9
IMAGE = f"sha256:{'a1' * 32}"


@pytest.fixture(params=sorted(path.name for path in STATES.iterdir()))
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A node's directory, with the modes that a node's files have."""
    directory = tmp_path / "node"
    shutil.copytree(STATES / request.param, directory)
    for path in directory.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return directory


def test_containers_are_read(state: Path) -> None:
    directory = RunDirectory(state / "run" / "wasmtime", state / "roots")
    directory.open()
    found = {name: each for name, each in scan(directory) if isinstance(each, Found)}
    directory.close()
    assert found.keys() == {RUNS, ENDED}
    runs, ended = found[RUNS], found[ENDED]
    assert (runs.started.pid, runs.started.start_time, runs.started.started_at) == (4194301, 123456, BEGAN)
    assert runs.exit is None
    assert ended.exit == Exit(3, ExitReason.ERROR, "said why", BEGAN - 10**9, BEGAN, 0)
    spec = runs.spec
    assert (spec.args, spec.env) == (("web", "--port", "80"), (("HOSTNAME", "web-0"), ("EMPTY", "")))
    assert (spec.working_dir, spec.memory_limit, spec.cpu_limit) == ("/srv", 67108864, 500)
    assert [preopen.guest for preopen in spec.preopens] == ["/data", "/dev"]
    assert [file.guest for file in spec.files] == ["/etc/hosts"]
    assert spec.identity == Identity(1000, 1000, (1000, 2000))
    assert spec.stop_file
    assert spec.group is not None
    assert spec.group.name == f"pod{UID}"


async def test_containers_are_adopted_as_attempts_of_their_pods(state: Path, tmp_path: Path) -> None:
    told: asyncio.Queue[ContainerState] = asyncio.Queue()
    provider = WasmtimeProvider(state / "run" / "wasmtime", tmp_path / "compiled")
    states = await provider.open(told.put_nowait)
    await provider.close()
    attempts = {each.container: each for each in map(records.record, states)}
    assert {each.uid for each in attempts.values()} == {UID}
    assert {(each.namespace, each.pod) for each in attempts.values()} == {("shop", "web-0")}
    main, once = attempts["main"].attempt, attempts["once"].attempt
    assert (main.number, main.started_at, main.image_id) == (2, BEGAN, f"registry.example/shop/web@{IMAGE}")
    assert main.exit is not None
    assert (main.exit.code, main.exit.reason) == (137, ExitReason.KILLED)
    assert (once.number, once.exit and once.exit.code) == (0, 3)
    assert attempts["main"].backoff.delay == 10.0


def test_what_pods_were_given_is_known(state: Path) -> None:
    given = AllocationFiles(state / "run" / "allocations").read(UID)
    assert given is not None
    assert given.applied == {"main": Applied(memory_limit=67108864)}
    assert given.resources.containers["main"].limits == {"memory": "64Mi"}
    (device,) = CheckpointFile(state / "root" / "devices.json").read().allocations
    assert (device.pod, device.container, device.devices) == (UID, "main", ("w0",))
    assert device.response is not None
    assert device.response.envs == {"W": "0"}


def test_images_and_volumes_are_known(state: Path) -> None:
    access = AccessFiles(state / "root" / "image-access").get(IMAGE, "registry.example/shop/web")
    assert [(one.namespace, one.name) for one in access.secrets] == [("shop", "pull")]
    root = state / "root"
    (volume,) = Records(Layout.of(root, state / "run"), root).published(UID)
    assert (volume.driver, volume.handle, volume.lifecycle) == ("d.example.com", "handle-1", "Persistent")
    assert instance_id(root) == "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"
