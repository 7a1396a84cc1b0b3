"""A real registry behind a proxy that cuts, stalls and alters what it sends."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import Fault, FaultProxy, Kind, fault_proxy
from guests import build_guest, push_bytes
from namespaces import Namespace

from oci.errors import ImageError, RegistryUnavailableError, UnauthorizedError, VerificationError
from oci.images import ImageStore
from oci.push import push_module
from oci.reference import Reference, parse

pytestmark = pytest.mark.integration

SIZE = 3_000_000
NAME = "faults/large"
BLOB, MANIFEST = f"GET /v2/{NAME}/blobs/", f"GET /v2/{NAME}/manifests/"


@pytest.fixture(scope="module")
def content() -> bytes:
    return b"\0asm\1\0\0\0" + os.urandom(SIZE)


@pytest.fixture(scope="module")
def pushed(cluster: Any, content: bytes) -> str:
    push_bytes(cluster.registry, NAME, content)
    return NAME


@pytest.fixture
def proxy(cluster: Any) -> Iterator[FaultProxy]:
    with fault_proxy(cluster.registry) as made:
        yield made


@pytest.fixture
def store(proxy: FaultProxy, tmp_path: Path) -> ImageStore:
    made = ImageStore(tmp_path / "images", insecure_registries=[proxy.address], read_timeout=2.0)
    made.open()
    return made


@pytest.fixture
def reference(proxy: FaultProxy, pushed: str) -> Reference:
    return parse(f"{proxy.address}/{pushed}:v1")


async def test_without_a_fault_the_proxy_changes_nothing(
    store: ImageStore, reference: Reference, content: bytes
) -> None:
    image = await store.pull(reference)
    assert await asyncio.to_thread(image.module.read_bytes) == content


def answer(status: str, *headers: str) -> bytes:
    return "\r\n".join(
        [f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "Connection: close", "", ""]
    ).encode()


ALWAYS = 1000


@pytest.mark.parametrize(
    ("fault", "expected", "text"),
    [
        (
            Fault(Kind.FLIP, BLOB, at=SIZE // 2),
            VerificationError,
            "blob sha256:[0-9a-f]+: the content is sha256:",
        ),
        (Fault(Kind.FLIP, BLOB), VerificationError, "blob sha256:[0-9a-f]+: the content is sha256:"),
        (
            Fault(Kind.FLIP, MANIFEST, at=20),
            VerificationError,
            "manifest v1: the content is sha256:.* expected",
        ),
        (Fault(Kind.CUT, MANIFEST, at=30), RegistryUnavailableError, "manifest v1: .*ended after 30 bytes"),
        (Fault(Kind.STALL, MANIFEST, at=30), RegistryUnavailableError, "manifest v1: .*stopped answering"),
        (Fault(Kind.CUT, BLOB, times=ALWAYS), RegistryUnavailableError, "blob sha256:"),
        (Fault(Kind.RESET, BLOB, times=ALWAYS), RegistryUnavailableError, "blob sha256:.*reset"),
        (Fault(Kind.STALL, BLOB, times=ALWAYS), RegistryUnavailableError, "blob sha256:.*stopped answering"),
        (
            Fault(Kind.ANSWER, MANIFEST, answer=answer("401 Unauthorized")),
            UnauthorizedError,
            "manifest v1: the registry answered 401",
        ),
        (
            Fault(
                Kind.ANSWER, BLOB, answer=answer("503 Service Unavailable", "Retry-After: 7"), times=ALWAYS
            ),
            RegistryUnavailableError,
            "blob sha256:[0-9a-f]+: the registry answered 503",
        ),
        (
            Fault(Kind.ANSWER, BLOB, answer=b"HTTP/1.1 200 OK\r\n\r\n" + bytes(2 * SIZE)),
            VerificationError,
            "more than the .* bytes that the manifest says",
        ),
        (
            Fault(
                Kind.ANSWER,
                MANIFEST,
                answer=answer("302 Found", f"Location: /v2/{NAME}/manifests/v1"),
                times=ALWAYS,
            ),
            ImageError,
            "redirect",
        ),
    ],
)
async def test_a_fault_is_told_and_leaves_nothing(
    fault: Fault,
    expected: type[ImageError],
    text: str,
    proxy: FaultProxy,
    store: ImageStore,
    reference: Reference,
    content: bytes,
    tmp_path: Path,
) -> None:
    proxy.faults = [dataclasses.replace(fault)]  # it counts its times
    with pytest.raises(expected, match=text) as caught:
        await store.pull(reference)
    assert f"registry {proxy.address}, repository {NAME}, reference v1" in str(caught.value)
    assert store.list() == []
    # Once it is over nothing of it is left.
    proxy.faults = []
    image = await store.pull(reference)
    assert await asyncio.to_thread(image.module.read_bytes) == content
    assert list((tmp_path / "images" / "ingest").iterdir()) == []


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.RESET, Kind.STALL])
async def test_a_download_that_breaks_is_resumed(
    kind: Kind, proxy: FaultProxy, store: ImageStore, reference: Reference, content: bytes
) -> None:
    proxy.faults = [Fault(kind, BLOB, at=at) for at in (SIZE // 2, SIZE // 4, 300_000)]
    image = await store.pull(reference)
    assert await asyncio.to_thread(image.module.read_bytes) == content
    assert len([line for line in proxy.requests if line.startswith(BLOB)]) == 4


def test_a_pod_starts_once_its_registry_is_well(
    cluster: Any, space: Namespace, proxy: FaultProxy, start_node: Any
) -> None:
    own = start_node("faulty-registry", f"--insecure-registries={proxy.address}")
    push_module(build_guest("sleep"), f"{cluster.registry}/faults/sleep:v1", insecure=True)
    # It is pulled again at once when it is put right, or after the first back-off.
    proxy.faults = [
        Fault(Kind.FLIP, "GET /v2/faults/sleep/blobs/", at=build_guest("sleep").stat().st_size // 2)
    ]
    space.pod("healed", f"{proxy.address}/faults/sleep:v1", nodeName=own.name)
    assert "the content is sha256:" in space.wait_reason("healed", "ErrImagePull")["message"]
    space.wait("pod/healed", "condition=Ready")
