"""Which image a container gets, with what its pod has for it, and who is refused one that is there."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import stat
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci.credentials import Credentials
from oci.errors import RegistryUnavailableError, SignatureError, StoreError, UnauthorizedError
from oci.images import Image, ImageConfig
from oci.reference import Reference, parse
from vkubelet.api.configuration import Secret
from vkubelet.api.containers import Container
from vkubelet.api.objects import LocalObjectReference, ObjectMeta, ObjectReference, Pod, PodSpec
from vkubelet.api.references import ReferenceNotFoundError
from vkubelet.pods.builtin import BuiltinImages
from vkubelet.pods.images.access import Access, AccessFiles, Holder, digest_of, extended, permitted
from vkubelet.pods.images.pull_secrets import PullSecrets
from vkubelet.pods.images.source import ImageSource, PullLimit
from vkubelet.pods.start_error import StartError
from vkubelet.toolbox import Toolbox

REGISTRY = "r.io"
IMAGE = f"{REGISTRY}/team/app:v1"
DIGEST = "sha256:" + "1" * 64
ALICE, BOB = Credentials("alice", "alices-word"), Credentials("bob", "bobs-word")


def secret(name: str, *credentials: Credentials, uid: str = "", kind: str = "dockerconfigjson") -> Secret:
    """A secret with credentials for the registry, the last of them for a longer path."""
    places = [REGISTRY, f"{REGISTRY}/team"]
    auths = {
        place: {"auth": base64.b64encode(f"{one.username}:{one.password}".encode()).decode()}
        for place, one in zip(places, credentials, strict=False)
    }
    document = {"auths": auths} if kind == "dockerconfigjson" else auths
    return Secret(
        metadata=ObjectMeta(name=name, namespace="ns", uid=uid or f"uid-{name}"),
        data={f".{kind}": json.dumps(document).encode()},
        type=f"kubernetes.io/{kind}",
    )


def pod(*secrets: str) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u"),
        spec=PodSpec(
            containers=[Container(name="main")],
            image_pull_secrets=[LocalObjectReference(name=name) for name in secrets],
        ),
    )


@dataclasses.dataclass
class Registry:
    """A store in front of a registry that knows who may have what; None: everybody may."""

    allowed: list[Credentials] | None = None
    here: bool = False
    busy: bool = False
    broken: bool = False
    signed: bool = True
    accepted: bool = True
    unreadable: bool = False
    damaged: list[str] = dataclasses.field(default_factory=list)
    asked: list[Credentials | None] = dataclasses.field(default_factory=list)

    def _image(self, reference: Reference) -> Image:
        return Image(reference, DIGEST, Path("/m"), "sha256:2", 5, (), ImageConfig())

    async def look(self, reference: Reference) -> Image | None:
        if self.broken:
            raise StoreError(reference, "image store: Input/output error")
        return self._image(reference) if self.here else None

    async def accepts(self, image: Image) -> bool:
        if self.unreadable:
            raise SignatureError(image.reference, "image policy: gone")
        return self.accepted

    async def set_aside_damaged(self, image: Image) -> None:
        self.damaged.append(image.reference.name)
        if self.broken:
            raise OSError(5, "Input/output error")

    def is_pulling(self, reference: Reference, credentials: Credentials | None, *, ask: bool) -> bool:
        return self.busy

    async def pull(
        self, reference: Reference, *, credentials: Credentials | None = None, ask: bool = False
    ) -> Image:
        assert ask, "who may use an image is the registry's to say"
        self.asked.append(credentials)
        if self.allowed is not None and credentials not in self.allowed:
            who = credentials.username if credentials is not None else "nobody"
            raise UnauthorizedError(reference, f"401 {who}")
        if not self.signed:
            raise SignatureError(reference, "image policy: not signed")
        self.here = self.accepted = True
        return self._image(reference)


class Secrets:
    """The API server's."""

    def __init__(self) -> None:
        self.there: dict[str, Secret] = {}
        self.used: dict[str, Collection[Any]] = {}

    async def get(self, kind: str, namespace: str, name: str) -> Secret:
        if (kind, namespace) != ("secrets", "ns") or name not in self.there:
            raise ReferenceNotFoundError("secrets", name)
        return self.there[name]

    def use(self, owner: str, wanted: Collection[Any], on_change: Callable[[], None] | None = None) -> None:
        self.used[owner] = wanted


class World:
    """A node with its image source."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.registry = Registry()
        self.secrets = Secrets()
        self.events: list[tuple[str, str]] = []
        self.restart()

    def restart(self, qps: float = 0.0, burst: int = 0) -> None:
        """Another agent."""
        limit = PullLimit(qps, burst)
        recorder = cast("Any", self)
        pull_secrets = PullSecrets(cast("Any", self.secrets), recorder, self.directory / "config.json")
        self.access = AccessFiles(self.directory / "access")
        builtin = BuiltinImages(Toolbox(enabled=False))
        self.source = ImageSource(self.registry, builtin, recorder, pull_secrets, self.access, limit)

    def event(self, ref: ObjectReference, kind: str, reason: str, message: str) -> None:
        self.events.append((reason, message))

    def know(self, *secrets: Secret) -> None:
        self.secrets.there |= {one.metadata.name: one for one in secrets}

    async def image(self, of: Pod, policy: str = "IfNotPresent", image: str = IMAGE) -> Image:
        container = Container(name="main", image=image, image_pull_policy=policy)
        return await self.source.image(of, container)

    async def refused(self, of: Pod, policy: str = "IfNotPresent", image: str = IMAGE) -> StartError:
        with pytest.raises(StartError) as caught:
            await self.image(of, policy, image)
        return caught.value

    @property
    def last(self) -> tuple[str, str]:
        return self.events[-1]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_public_image_is_everybodys(world: World) -> None:
    await world.image(pod())
    assert world.registry.asked == [None]
    assert [reason for reason, _ in world.events] == ["Pulling", "Pulled"]
    world.restart()
    await world.image(pod("none"))
    await world.image(pod(), "Never")
    assert world.registry.asked == [None]
    assert world.last == (
        "Pulled",
        f'Container image "{IMAGE}" already present on machine and can be accessed by the pod',
    )


@pytest.mark.parametrize("kind", ["dockerconfigjson", "dockercfg"])
async def test_a_private_one_is_pulled_with_the_pods_secret(world: World, kind: str) -> None:
    world.registry.allowed = [ALICE]
    world.know(secret("a", ALICE, kind=kind))
    await world.image(pod("a"))
    assert world.registry.asked == [ALICE]
    await world.image(pod("a"))
    assert world.registry.asked == [ALICE], "who could pull it needs no request"


async def test_what_is_there_is_not_given_to_who_could_not_pull_it(world: World) -> None:
    world.registry.allowed = [ALICE]
    world.know(secret("a", ALICE), secret("b", BOB))
    await world.image(pod("a"))
    world.restart()
    error = await world.refused(pod())
    assert error.reason == "ErrImagePull"
    assert "401 nobody" in str(error)
    assert world.last == ("Failed", f'Failed to pull image "{IMAGE}": {error}')
    assert "401 bob" in str(await world.refused(pod("b")))
    error = await world.refused(pod("b"), "Never")
    assert error.reason == "ErrImageNeverPull"
    # An image of the same content that is another repository's is another question.
    assert (await world.refused(pod("a"), "Never", f"{REGISTRY}/other/app:v1")).reason == "ErrImageNeverPull"
    await world.image(pod("a"), "Never")


async def test_an_image_that_the_policy_does_not_accept(world: World) -> None:
    world.registry.signed = False
    error = await world.refused(pod())
    cause = "registry r.io, repository team/app, reference v1: image policy: not signed"
    assert error.reason == "SignatureValidationFailed"
    assert str(error) == f"image pull failed for {IMAGE} because the signature validation failed: {cause}"
    assert world.last == ("Failed", f'Failed to pull image "{IMAGE}": {cause}')
    world.registry.signed = True
    await world.image(pod())


async def test_an_image_that_is_here_and_that_nobody_knows_to_be_accepted_is_pulled_anew(
    world: World,
) -> None:
    await world.image(pod())
    world.registry.accepted = False
    error = await world.refused(pod(), "Never")
    assert error.reason == "SignatureValidationFailed"
    assert "Never" in str(error)
    assert world.registry.asked == [None]
    await world.image(pod())
    assert world.registry.asked == [None, None]
    await world.image(pod(), "Never")
    world.registry.unreadable = True
    error = await world.refused(pod())
    assert error.reason == "SignatureValidationFailed"
    assert "image policy: gone" in str(error)


async def test_the_same_credentials_or_the_same_secret_will_do(world: World) -> None:
    world.registry.allowed = [ALICE]
    world.know(secret("a", ALICE), secret("copy", ALICE))
    await world.image(pod("a"))
    await world.image(pod("copy"))
    # Its password was changed since: the secret still stands for who could pull.
    world.know(secret("copy", Credentials("alice", "new")))
    await world.image(pod("copy"))
    assert world.registry.asked == [ALICE]
    # A new secret of that name is another one.
    world.know(secret("copy", BOB, uid="another"))
    await world.refused(pod("copy"))


async def test_all_are_tried_and_the_nodes_own_last(world: World) -> None:
    world.registry.allowed = [BOB]
    world.know(secret("both", ALICE, Credentials("carol", "three")))
    own = {"auths": {REGISTRY: {"username": "bob", "password": "bobs-word"}}}
    (world.directory / "config.json").write_text(json.dumps(own))
    await world.image(pod("both"))
    assert world.registry.asked == [Credentials("carol", "three"), ALICE, BOB]
    await world.image(pod())
    assert world.registry.asked[-1] == BOB
    assert len(world.registry.asked) == 3, "what the node may have, all its pods may"


async def test_every_failure_is_told(world: World) -> None:
    world.registry.allowed = []
    world.know(secret("a", ALICE), secret("b", BOB))
    error = await world.refused(pod("a", "b", "a"))
    assert str(error).startswith("[registry r.io, ")
    assert str(error).count("401") == 2
    assert ALICE.password not in str(error)


async def test_a_missing_secret_is_told_and_the_others_are_tried(world: World) -> None:
    world.registry.allowed = [ALICE]
    world.know(secret("a", ALICE))
    await world.image(pod("gone", "", "a", "lost"))
    assert world.events[0] == (
        "FailedToRetrieveImagePullSecret",
        "Unable to retrieve some image pull secrets (gone, lost); attempting to pull the image may not "
        "succeed.",
    )
    assert world.secrets.used == {
        "image pull secrets u": [("secrets", "ns", n) for n in ("gone", "a", "lost")]
    }
    world.source.forget(pod())
    assert world.secrets.used == {"image pull secrets u": ()}


async def test_a_secret_that_says_nothing_that_can_be_read(world: World) -> None:
    broken = secret("a", ALICE)
    broken.data = {".dockerconfigjson": b'{"auths": {"r.io": {"auth": "eA=="}}}'}
    world.know(broken)
    error = await world.refused(pod("a"))
    assert error.reason == "ErrImagePull"
    assert 'secret "ns/a": .dockerconfigjson: auths[' in str(error)
    # One of another type, or without content, says nothing at all.
    world.know(Secret(metadata=broken.metadata, data=broken.data, type="Opaque"))
    await world.image(pod("a"))
    (world.directory / "config.json").write_text("{")
    await world.image(pod("a"), "Always")
    assert world.registry.asked == [None, None]


async def test_what_is_known_survives_as_far_as_it_can_be_read(world: World) -> None:
    world.registry.allowed = [ALICE]
    world.know(secret("a", ALICE))
    await world.image(pod("a"))
    (file,) = (world.directory / "access").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ALICE.password.encode() not in file.read_bytes()
    for content in (b"{", b'{"r.io/team/app": 1}', b"\xff"):
        file.write_bytes(content)
        world.restart()
        await world.image(pod("a"))
    assert world.registry.asked == [ALICE] * 4, "what cannot be read is open to nobody"
    world.access.keep_only([DIGEST])
    assert file.exists()
    world.access.keep_only([])
    assert not file.exists()
    world.access.keep_only([])


async def test_where_nothing_can_be_kept_this_agent_still_knows(world: World) -> None:
    (world.directory / "access").write_text("in the way")
    await world.image(pod())
    await world.image(pod(), "Never")


@given(
    st.lists(st.sampled_from(["a", "b", "c", None]), max_size=6),
    st.sampled_from(["a", "b", "c"]),
)
def test_only_who_was_let_in_may_use_it(pulls: list[str | None], asks: str) -> None:
    def holder(name: str) -> Holder:
        return Holder(namespace="ns", name=name, uid=name, digest=digest_of(Credentials(name, name)))

    access = Access()
    for name in pulls:
        access = extended(access, holder(name) if name else None)
    assert access.everybody == (None in pulls)
    allowed = permitted(access, [holder(asks)]) is not None
    assert (allowed or access.everybody) == (asks in pulls or None in pulls)


async def test_images_that_have_no_name(world: World) -> None:
    assert (await world.refused(pod(), image="x/UPPER")).reason == "InvalidImageName"
    assert (await world.refused(pod(), image="vkubelet.local/none")).reason == "ErrImagePull"


async def test_a_registry_that_asks_for_a_pause_gets_it(world: World, monkeypatch) -> None:
    async def pull(reference: Reference, **_: Any) -> Image:
        raise RegistryUnavailableError(reference, "429 Too Many Requests", 77.0)

    monkeypatch.setattr(world.registry, "pull", pull)
    error = await world.refused(pod())
    assert error.reason == "ErrImagePull"
    assert error.retry_after == 77.0


async def test_registries_are_asked_no_more_often_than_they_may_be(world: World) -> None:
    world.restart(qps=0.001, burst=2)
    for _ in range(2):
        await world.image(pod(), "Always")
    error = await world.refused(pod(), "Always")
    assert (error.reason, str(error)) == ("ErrImagePull", "pull QPS exceeded")
    assert world.last == ("Failed", f'Failed to pull image "{IMAGE}": pull QPS exceeded')
    assert len(world.registry.asked) == 2
    await world.image(pod())  # what is here costs nothing
    world.registry.busy = True
    await world.image(pod(), "Always")  # nor does waiting for another's pull


async def test_a_disk_that_cannot_be_read_is_told(world: World) -> None:
    world.registry.broken = True
    error = await world.refused(pod())
    assert error.reason == "ImageInspectError"
    assert world.last[0] == "InspectFailed"
    assert str(error).startswith(f'Failed to inspect image "{IMAGE}": registry ')


async def test_what_is_found_damaged_is_set_aside_but_for_the_nodes_own(world: World) -> None:
    image = await world.image(pod())
    await world.source.set_aside_damaged(image)
    own = dataclasses.replace(image, reference=parse("vkubelet.local/toolbox:v1"))
    await world.source.set_aside_damaged(own)
    assert world.registry.damaged == [image.reference.name]
    world.registry.broken = True
    with pytest.raises(StartError, match="Input/output error"):
        await world.source.set_aside_damaged(image)


async def test_what_came_while_credentials_were_looked_for_is_not_pulled_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = world.secrets.get

    async def meanwhile(kind: str, namespace: str, name: str) -> Secret:
        world.registry.here = True
        world.access.allow(DIGEST, "r.io/team/app", None)
        return await look_up(kind, namespace, name)

    monkeypatch.setattr(world.secrets, "get", meanwhile)
    world.know(secret("pull", ALICE))
    await world.image(pod("pull"))
    assert world.registry.asked == []
    assert [reason for reason, _ in world.events] == ["Pulled"]
    await world.image(pod("pull"), "Always")
    assert len(world.registry.asked) == 1


async def test_what_another_pod_pulled_while_one_looked_is_not_pulled_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = asyncio.Semaphore(0)
    look = world.registry.look

    async def slow(reference: Reference) -> Image | None:
        found = await look(reference)
        await looks.acquire()
        return found

    monkeypatch.setattr(world.registry, "look", slow)
    late = asyncio.create_task(world.image(pod()))
    looks.release()
    for _ in range(10):  # it looks for the second time, and nothing is there
        await asyncio.sleep(0)
    await world.image(pod(), "Always")
    looks.release()
    looks.release()
    await asyncio.wait_for(late, 10)
    assert len(world.registry.asked) == 1
    assert world.last[1].startswith(f'Container image "{IMAGE}" already present on machine')
