"""Pulls under a policy, of a registry that has signatures, lacks them, or says what it likes."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from signer import BUNDLE, SIMPLE, Signer, payload, statement

from oci import digests
from oci.errors import NotFoundError, RegistryUnavailableError, SignatureError
from oci.images import ImageStore
from oci.manifest import INDEX, MANIFEST
from oci.signing.errors import PolicyError
from oci.signing.lookup import MAXIMUM_SIZE, MOST

Stores = Callable[..., ImageStore]
Registry = Any


class Node:
    """A node with a policy, and who may sign."""

    def __init__(self, directory: Path, stores: Stores, registry: Registry) -> None:
        self.signer, self.registry = Signer(), registry
        self.file, self.key = directory / "policy.json", directory / "key.pub"
        self._stores = stores
        self.trust(self.signer)
        self.write()
        self.store = self.restart()

    def trust(self, signer: Signer) -> None:
        self.key.write_bytes(signer.pem())

    def write(self, identity: str = "matchRepository", **scopes: Any) -> None:
        """Everything must be signed, but for what is said of `scopes`."""
        signed = {
            "type": "sigstoreSigned",
            "keyPath": str(self.key),
            "signedIdentity": {"type": identity},
        }
        document = {"default": [signed], "transports": {"docker": scopes}}
        self.file.write_text(json.dumps(document))

    def restart(self) -> ImageStore:
        self.store = self._stores(self.registry.address, read_timeout=1.0, policy=self.file)
        return self.store

    async def pull(self, name: str = "team/app:v1") -> Any:
        return await self.store.pull(self.registry.reference(name))

    async def refused(self, name: str = "team/app:v1") -> str:
        with pytest.raises(SignatureError) as caught:
            await self.pull(name)
        return str(caught.value)

    async def accepts(self, name: str = "team/app:v1") -> bool:
        image = await self.store.look(self.registry.reference(name))
        assert image is not None
        return await self.store.accepts(image)

    def sign(self, digest: str, signer: Signer | None = None, *, named: str = "team/app") -> None:
        """As `cosign sign --new-bundle-format=false`."""
        signed = payload(digest, f"{self.registry.address}/{named}")
        by = signer or self.signer
        self.layers(digest, {**self.registry.blob(signed, SIMPLE), "annotations": by.annotations(signed)})

    def layers(self, digest: str, *layers: dict[str, Any]) -> None:
        document = self.registry.manifest(*layers)
        self.registry.document(f"team/app:{digest.replace(':', '-')}.sig", document)

    def bundle(self, data: bytes, tag: str = "bundle") -> dict[str, Any]:
        """The descriptor of a referrer that has it."""
        document = {**self.registry.manifest(self.registry.blob(data, BUNDLE)), "artifactType": BUNDLE}
        return {**self.registry.document(f"team/app:{tag}", document), "artifactType": BUNDLE}

    def refer(self, digest: str, *referrers: dict[str, Any], api: bool) -> None:
        """Let them refer to the image, by the API or by its fallback tag."""
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(referrers)}
        self.registry.document(f"team/app:{digest.replace(':', '-')}", document, INDEX)
        if api:
            path = f"/v2/team/app/manifests/{digest.replace(':', '-')}"
            self.registry.manifests[f"/v2/team/app/referrers/{digest}"] = self.registry.manifests.pop(path)


@pytest.fixture
def node(tmp_path: Path, stores: Stores, registry: Registry) -> Node:
    return Node(tmp_path, stores, registry)


async def test_what_is_signed_and_what_is_not(node: Node) -> None:
    digest = node.registry.image("team/app:v1")["digest"]
    text = await node.refused()
    assert text == (
        f"registry {node.registry.address}, repository team/app, reference v1: {digest}: "
        f"image policy {node.file}: default[0] (sigstoreSigned): the image has no signature"
    )
    assert not [path for path in node.registry.paths() if "blobs" in path], "nothing of it was fetched"
    node.sign(digest, Signer())
    tag = f"tag {digest.replace(':', '-')}.sig layer 0"
    assert (await node.refused()).endswith(f"(sigstoreSigned): {tag}: it is by none of the keys")
    node.sign(digest, named="team/other")
    assert "signedIdentity matchRepository does not take" in await node.refused()
    node.sign(digest)
    assert (await node.pull()).digest == digest


@pytest.mark.parametrize("api", [True, False])
async def test_bundles_refer_to_the_image(node: Node, api: bool) -> None:
    digest = node.registry.image("team/app:v1")["digest"]
    node.refer(digest, node.bundle(node.signer.bundle(statement(digest))), api=api)
    assert "only signedIdentity digestOnly takes" in await node.refused()
    node.write("digestOnly")
    assert (await node.pull()).digest == digest


async def test_the_manifest_itself_may_be_what_is_signed(node: Node) -> None:
    descriptor = node.registry.image("team/app:v1")
    _, data = node.registry.manifests["/v2/team/app/manifests/v1"]
    other = node.bundle(Signer().message_bundle(data), "other")
    untold = {**node.bundle(node.signer.message_bundle(data)), "artifactType": ""}
    node.refer(descriptor["digest"], untold, other, api=True)
    node.write("digestOnly")
    await node.pull()


@pytest.mark.parametrize("of", ["index", "manifest"])
async def test_the_index_or_what_is_chosen_of_it_may_be_signed(node: Node, of: str) -> None:
    chosen = {**node.registry.image("team/app:one"), "platform": {"os": "wasi", "architecture": "wasm"}}
    index = node.registry.index("team/app:v1", chosen)
    node.sign({"index": index, "manifest": chosen}[of]["digest"])
    assert (await node.pull()).digest == index["digest"]


async def test_scopes(node: Node) -> None:
    node.registry.image("team/app:v1")
    node.registry.image("free/app:v1")
    free = f"{node.registry.address}/free"
    node.write(**{free: [{"type": "insecureAcceptAnything"}], f"{free}/no": [{"type": "reject"}]})
    await node.pull("free/app:v1")
    assert node.registry.paths("GET")[-1].startswith("GET blobs/"), "no signature was asked for"
    await node.refused()
    rejected = node.registry.image("free/no:v1")
    assert await node.refused("free/no:v1") == (
        f"registry {node.registry.address}, repository free/no, reference v1: "
        f"{rejected['digest']}: "
        f"image policy {node.file}: transports.docker['{free}/no'][0] (reject): no such image is accepted"
    )


async def test_what_was_accepted_needs_no_request_whoever_starts(node: Node) -> None:
    node.sign(node.registry.image("team/app:v1")["digest"])
    await node.pull()
    asked = len(node.registry.requests)
    assert await node.accepts()
    node.restart()
    assert await node.accepts()
    image = await node.pull()
    by_digest = f"team/app@{image.digest}"
    assert len(node.registry.requests) == asked + 1, "the tag"
    # Under another name it is another image.
    assert not await node.accepts(by_digest)
    await node.pull(by_digest)
    assert await node.accepts(by_digest)


async def test_another_policy_or_key_accepts_anew(node: Node) -> None:
    node.sign(node.registry.image("team/app:v1")["digest"])
    await node.pull()
    other = Signer()
    node.trust(other)
    assert not await node.accepts()
    assert "by none of the keys" in await node.refused()
    node.trust(node.signer)
    assert await node.accepts(), "as it was accepted by this policy before"
    node.write("matchRepository", **{"": [{"type": "reject"}]})
    assert not await node.accepts()
    assert "transports.docker[''][0] (reject)" in await node.refused()
    node.write("matchRepository", **{"": [{"type": "insecureAcceptAnything"}]})
    assert await node.accepts()


async def test_a_policy_that_cannot_be_read_lets_nothing_pass(node: Node) -> None:
    node.sign(node.registry.image("team/app:v1")["digest"])
    await node.pull()
    node.file.write_text("{")
    for call in (node.accepts, node.pull):
        with pytest.raises(SignatureError, match=r"image policy .*policy.json: Expecting property name"):
            await call()
    node.file.unlink()
    assert "policy.json: No such file or directory" in await node.refused()
    with pytest.raises(PolicyError, match=r"policy.json: No such file or directory"):
        node.restart()
    node.write()
    assert await node.accepts()
    os.mkfifo(node.file.with_name("pipe"))
    node.file.unlink()
    node.file.symlink_to("pipe")
    assert "no regular file" in await node.refused()


async def test_a_damaged_record_is_looked_at_again(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.sign(node.registry.image("team/app:v1")["digest"])
    await node.pull()
    (record,) = (node.file.parent / "images" / "accepted").iterdir()
    record.write_bytes(b"[[")
    node.restart()
    assert not await node.accepts()
    assert "is not known any more" in caplog.text
    await node.pull()
    node.restart()
    assert await node.accepts()


async def test_records_go_with_their_images(node: Node) -> None:
    node.sign(node.registry.image("team/app:v1")["digest"])
    await node.pull()
    await node.store.release((), {})
    assert len(await node.store.remove_unused(lambda image: False)) == 1
    assert not list((node.file.parent / "images" / "accepted").iterdir())


async def test_a_registry_that_cannot_say_is_no_refusal(node: Node) -> None:
    node.sign(node.registry.image("team/app:v1")["digest"])
    node.registry.faults[".sig"] = node.registry.status(503)
    with pytest.raises(RegistryUnavailableError):
        await node.pull()
    node.registry.faults = {"/referrers/": node.registry.status(503)}
    await node.pull()


@pytest.mark.parametrize("status", [400, 404, 405])
async def test_a_registry_without_the_referrers_api(node: Node, status: int) -> None:
    node.write("digestOnly")
    digest = node.registry.image("team/app:v1")["digest"]
    node.registry.faults["/referrers/"] = node.registry.status(status)
    node.refer(digest, node.bundle(node.signer.bundle(statement(digest))), api=False)
    await node.pull()


async def test_the_fallback_tag_of_a_long_digest_is_cut(node: Node) -> None:
    node.write("digestOnly")
    node.registry.image("team/app:v1")
    manifests = node.registry.manifests
    media_type, data = manifests["/v2/team/app/manifests/v1"]
    digest = digests.of(data, "sha512")
    manifests[f"/v2/team/app/manifests/{digest}"] = media_type, data
    node.registry.faults["/referrers/"] = node.registry.status(404)
    bundle = node.bundle(node.signer.bundle(statement(digest)))
    tag = f"sha512-{digest.partition(':')[2][:64]}"
    node.registry.document(
        f"team/app:{tag}", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [bundle]}, INDEX
    )
    await node.pull(f"team/app@{digest}")


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        ({"digest": "sha256:.."}, "its digest is 'sha256:..'"),
        ({"size": MAXIMUM_SIZE + 1}, f"it has {MAXIMUM_SIZE + 1} bytes, of which at most"),
        ({"size": -1}, "it has -1 bytes"),
        ({"annotations": {}}, "it is by none of the keys"),
        ({"annotations": None}, "its manifest cannot be read"),
        ({"mediaType": "text/plain"}, "the image has no signature"),
        ({"digest": "sha256:" + "0" * 64}, "404"),
    ],
)
async def test_layers_that_a_registry_makes_up(node: Node, layer: dict[str, Any], problem: str) -> None:
    digest = node.registry.image("team/app:v1")["digest"]
    signed = payload(digest, "x")
    good = {**node.registry.blob(signed, SIMPLE), "annotations": node.signer.annotations(signed)}
    node.layers(digest, {**good, **layer})
    with pytest.raises((SignatureError, NotFoundError)) as caught:
        await node.pull()
    assert problem in str(caught.value)


async def test_a_blob_that_is_another_one(node: Node) -> None:
    digest = node.registry.image("team/app:v1")["digest"]
    node.sign(digest)
    blob = next(path for path, data in node.registry.blobs.items() if b"critical" in data)
    node.registry.blobs[blob] = node.registry.blobs[blob].replace(b"cosign", b"kosign")
    assert f"its content is not that of {blob}" in await node.refused()


async def test_what_is_looked_at_has_an_end(node: Node) -> None:
    digest = node.registry.image("team/app:v1")["digest"]
    signed = payload(digest, f"{node.registry.address}/team/app")
    wrong = Signer().annotations(signed)
    layers = [{**node.registry.blob(signed, SIMPLE), "annotations": wrong} for _ in range(MOST)]
    last = {**layers[0], "annotations": node.signer.annotations(signed)}
    node.layers(digest, *layers, last)
    text = await node.refused()
    assert text.endswith(f"it is by none of the keys; and {MOST - 4} more")
    node.layers(digest, *layers[1:], last)
    await node.pull()


@pytest.mark.parametrize(
    "list_of_referrers",
    [b"", b"[" * 100_000, b"{}", json.dumps({"schemaVersion": 2, "layers": [], "config": {}}).encode()],
)
async def test_a_list_of_referrers_that_is_none(node: Node, list_of_referrers: bytes) -> None:
    digest = node.registry.image("team/app:v1")["digest"]
    node.registry.manifests[f"/v2/team/app/referrers/{digest}"] = (MANIFEST, list_of_referrers)
    with pytest.raises(Exception, match="manifest"):
        await node.pull()


async def test_what_is_known_to_be_accepted_needs_neither_request_nor_record(node: Node) -> None:
    node.sign(node.registry.image("team/app:v1")["digest"])
    await node.pull()
    asked = len(node.registry.requests)
    shutil.rmtree(node.file.parent / "images" / "accepted")
    assert await node.accepts()
    assert len(node.registry.requests) == asked
