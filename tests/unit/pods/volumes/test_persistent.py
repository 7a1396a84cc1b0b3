"""Claims and what they lead to: the kubelet's checks and texts, and the volumes that this node can mount."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from aiohttp import web
from serving import serving

from vkubelet.api.client import ApiClient
from vkubelet.api.credentials import Credentials
from vkubelet.api.objects import Pod
from vkubelet.api.volumes import NFSVolumeSource, Volume
from vkubelet.pods.fit import NodeView
from vkubelet.pods.volumes import nfs
from vkubelet.pods.volumes.claims import Claims
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.kinds import Mounted
from vkubelet.pods.volumes.layout import Layout
from vkubelet.pods.volumes.nfs import Nfs
from vkubelet.pods.volumes.persistent import Persistent

UNPROCESSED = (
    "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], "
    "failed to process volumes=[v]: "
)


class Node:
    def view(self) -> NodeView:
        return NodeView("node-1", {"zone": "a"}, (), {}, 0)

    async def refresh(self) -> NodeView:
        return self.view()


class Server:
    """The API server's claims and volumes, by path."""

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, dict[str, Any]] = {}

    def claim(self, name: str = "c", volume: str = "pv", phase: str = "Bound", **meta: Any) -> None:
        self.objects[f"/api/v1/namespaces/ns/persistentvolumeclaims/{name}"] = {
            "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}", **meta},
            "spec": {"volumeName": volume},
            "status": {"phase": phase},
        }

    def volume(self, name: str = "pv", claim: str = "c", annotations: Any = None, **spec: Any) -> None:
        self.objects[f"/api/v1/persistentvolumes/{name}"] = {
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"claimRef": {"uid": f"uid-{claim}"}, **spec},
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        found = self.objects.get(request.path)
        if found is not None:
            return web.json_response(found)
        *_, kind, name = request.path.split("/")
        return web.json_response({"code": 404, "message": f'{kind} "{name}" not found'}, status=404)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with serving(made.handle) as made.url:
        yield made


@pytest.fixture
async def kind(server: Server, tmp_path: Path) -> AsyncIterator[Persistent]:
    client = ApiClient(Credentials(server.url), Path("/nowhere"))
    yield Persistent(
        Claims(client, Node()), Layout.of(tmp_path / "root", tmp_path / "run"), cast("Any", None)
    )
    await client.close()


def pod(uid: str = "u", **context: Any) -> Pod:
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": uid},
        "spec": {
            "containers": [{"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "securityContext": context,
        },
    }
    return msgspec.convert(document, Pod)


def volume(**source: Any) -> Volume:
    return msgspec.convert({"name": "v", **(source or {"persistentVolumeClaim": {"claimName": "c"}})}, Volume)


async def mounted(kind: Persistent | Nfs, wanted: Pod | None = None, **source: Any) -> Mounted:
    return (await kind.prepare(wanted or pod(), volume(**source))).apply()


async def message(kind: Persistent | Nfs, wanted: Pod | None = None, **source: Any) -> str:
    with pytest.raises(SetUpError) as failure:
        await mounted(kind, wanted, **source)
    return failure.value.message("v")


async def test_a_claim_leads_to_a_directory(server: Server, kind: Persistent, tmp_path: Path) -> None:
    server.claim()
    server.volume(local={"path": str(tmp_path)})
    assert await mounted(kind) == Mounted(tmp_path)
    read_only = {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}}
    assert await mounted(kind, **read_only) == Mounted(tmp_path, read_only=True)
    server.volume(hostPath={"path": str(tmp_path), "type": "Directory"})
    assert await mounted(kind) == Mounted(tmp_path)
    server.volume(local={"path": str(tmp_path)}, mountOptions=["noatime", "ro"])
    assert await mounted(kind) == Mounted(tmp_path, read_only=True)


async def test_claims_that_lead_nowhere_are_told(server: Server, kind: Persistent) -> None:
    claim = f"{UNPROCESSED}error processing PVC ns/c: "
    assert await message(kind) == (
        f'{claim}failed to fetch PVC from API server: persistentvolumeclaims "c" not found'
    )
    server.claim(phase="Pending")
    assert await message(kind) == f"{claim}PVC is not bound"
    server.claim(volume="")
    assert await message(kind) == f"{claim}PVC has empty pvc.Spec.VolumeName"
    server.claim()
    assert await message(kind) == (
        f'{claim}failed to fetch PV pv from API server: persistentvolumes "pv" not found'
    )
    server.volume(claim="other")
    assert await message(kind) == (
        f"{claim}found PV object pv but its pv.Spec.ClaimRef.UID uid-other does not point to claim.UID uid-c"
    )
    server.objects["/api/v1/persistentvolumes/pv"]["spec"] = {}
    assert await message(kind) == (
        f"{claim}found PV object pv but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the "
        "claim"
    )
    server.claim(deletionTimestamp="2026-01-01T00:00:00Z")
    assert await message(kind) == f"{claim}PVC is being deleted"
    server.claim(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["kubernetes.io/pvc-protection"])
    server.volume(volumeMode="Block")
    assert await message(kind) == (
        f"{UNPROCESSED}volume v has volumeMode Block, but is specified in volumeMounts"
    )


async def test_a_volume_of_another_node_is_not_mounted(server: Server, kind: Persistent) -> None:
    server.claim()
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}
    server.volume(local={"path": "/"}, nodeAffinity={"required": {"nodeSelectorTerms": [term]}})
    assert await message(kind) == (
        'MountVolume.NodeAffinity check failed for volume "pv" : no matching NodeSelectorTerms'
    )
    term["matchExpressions"][0]["values"] = ["a"]
    server.volume(local={"path": "/"}, nodeAffinity={"required": {"nodeSelectorTerms": [term]}})
    assert (await mounted(kind)).path == Path("/")


async def test_what_cannot_be_mounted_is_told_of_the_clusters_volume(
    server: Server, kind: Persistent, tmp_path: Path
) -> None:
    server.claim()
    (tmp_path / "file").touch()
    for spec, expected in (
        (
            {"local": {"path": f"{tmp_path}/no"}},
            'MountVolume.NewMounter initialization failed for volume "pv" : '
            f'path "{tmp_path}/no" does not exist',
        ),
        (
            {"local": {"path": f"{tmp_path}/file"}},
            'MountVolume.NewMounter initialization failed for volume "pv" : '
            "only directory and block device are supported",
        ),
        (
            {"hostPath": {"path": f"{tmp_path}/file", "type": "Directory"}},
            'MountVolume.SetUp failed for volume "pv" : hostPath type check failed: '
            f"{tmp_path}/file is not a directory, it's a File",
        ),
        (
            {"hostPath": {"path": "/"}, "mountOptions": ["ro"]},
            'MountVolume.MountOptionSupport check failed for volume "pv" : '
            "mount options are not supported for this volume type",
        ),
        (
            {"rbd": {"image": "i"}},
            'MountVolume.FindPluginBySpec failed for volume "pv" : no volume plugin matched',
        ),
    ):
        server.volume(**spec)
        assert await message(kind) == expected


async def test_a_volume_for_one_pod_is_for_one_pod(server: Server, kind: Persistent, tmp_path: Path) -> None:
    server.claim()
    server.volume(local={"path": str(tmp_path)}, accessModes=["ReadWriteOncePod"])
    await mounted(kind, pod("first"))
    await mounted(kind, pod("first"))
    assert await message(kind, pod("second")) == (
        'MountVolume.SetUp failed for volume "pv" : volume uses the ReadWriteOncePod access mode and is '
        "already in use by another pod"
    )
    kind.forget("first")
    await mounted(kind, pod("second"))


async def test_who_could_not_mount_it_does_not_keep_it_from_others(
    server: Server, kind: Persistent, tmp_path: Path
) -> None:
    server.claim()
    server.volume(local={"path": f"{tmp_path}/late"}, accessModes=["ReadWriteOncePod"])
    await message(kind, pod("first"))
    (tmp_path / "late").mkdir()
    await mounted(kind, pod("second"))


async def test_an_ephemeral_claim_must_be_the_pods_own(
    server: Server, kind: Persistent, tmp_path: Path
) -> None:
    server.claim("p-v", ownerReferences=[{"uid": "somebody", "controller": True}])
    server.volume(claim="p-v", local={"path": str(tmp_path)})
    ephemeral = {"ephemeral": {"volumeClaimTemplate": {}}}
    assert await message(kind, **ephemeral) == (
        f"{UNPROCESSED}PVC ns/p-v was not created for pod ns/p (pod is not owner)"
    )
    server.claim("p-v", ownerReferences=[{"uid": "u", "controller": True}])
    assert await mounted(kind, **ephemeral) == Mounted(tmp_path)


async def test_groups_are_those_of_the_pod_and_of_the_volume(
    server: Server, kind: Persistent, tmp_path: Path
) -> None:
    server.claim()
    server.volume(local={"path": str(tmp_path)}, annotations={"pv.beta.kubernetes.io/gid": "1234"})
    assert (await mounted(kind)).group == 1234
    assert (await mounted(kind, pod(supplementalGroups=[1234]))).group is None
    group = 4321 if os.geteuid() == 0 else os.getgid()
    (tmp_path / "file").touch()
    await mounted(kind, pod(fsGroup=group))
    assert (tmp_path / "file").stat().st_gid == group
    (tmp_path / "file").chmod(0o600)
    await mounted(kind, pod(fsGroup=group, fsGroupChangePolicy="OnRootMismatch"))
    if os.geteuid() == 0:
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    await mounted(kind, pod("other", fsGroup=group))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


async def test_without_an_api_server_no_claim_is_followed(tmp_path: Path) -> None:
    kind = Persistent(Claims(None, Node()), Layout.of(tmp_path, tmp_path), cast("Any", None))
    assert (await message(kind)).endswith("PVC from API server: this node runs without an API server")


@pytest.fixture
def mount_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What stands for mount(8): it fails when it finds a reason to; its arguments, a line a call."""
    program = tmp_path / "bin" / "mount"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        f"[ -f {tmp_path}/reason ] && cat {tmp_path}/reason && exit 32\nexit 0\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return lambda: (tmp_path / "calls").read_text().splitlines()


async def test_an_export_is_mounted_as_it_is_asked_for(
    server: Server, kind: Persistent, tmp_path: Path, mount_program: Callable[[], list[str]]
) -> None:
    export = {"server": "files.example.com", "path": "/srv"}
    where = tmp_path / "run" / "volumes" / "u" / "kubernetes.io~nfs"
    own = Nfs(Layout.of(tmp_path / "root", tmp_path / "run"))
    assert await mounted(own, nfs={**export, "readOnly": True}) == Mounted(where / "v", read_only=True)
    server.claim()
    server.volume(nfs={**export, "server": "fd00::1"}, mountOptions=["nfsvers=4.2", "hard"])
    assert await mounted(kind) == Mounted(where / "pv")
    assert mount_program() == [
        f"-t nfs -o ro files.example.com:/srv {where}/v",
        f"-t nfs -o nfsvers=4.2,hard [fd00::1]:/srv {where}/pv",
    ]
    (tmp_path / "reason").write_text("access denied by server")
    assert await message(own, nfs=export) == (
        'MountVolume.SetUp failed for volume "v" : mount failed: exit status 32\nMounting command: mount\n'
        f"Mounting arguments: -t nfs files.example.com:/srv {where}/v\nOutput: access denied by server"
    )


async def test_a_server_that_never_answers_is_given_up(
    tmp_path: Path, mount_program: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin" / "mount").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(nfs, "_TIMEOUT", 0.05)
    with pytest.raises(SetUpError, match="mount failed: timed out"):
        await nfs.mount(tmp_path / "x", NFSVolumeSource(server="s", path="/"), (), read_only=False)


async def test_who_does_not_wait_any_more_ends_the_program(
    tmp_path: Path, mount_program: Callable[[], list[str]]
) -> None:
    (tmp_path / "bin" / "mount").write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    source = NFSVolumeSource(server="s", path="/")
    waiting = asyncio.create_task(nfs.mount(tmp_path / "x", source, (), read_only=False))
    async with asyncio.timeout(10):
        while not (pid := await asyncio.to_thread(_pid, tmp_path / "pid")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _pid(path: Path) -> int:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0
