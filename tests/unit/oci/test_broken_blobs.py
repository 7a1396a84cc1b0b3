"""What hosts of a registry break off, and who is asked for the rest of it."""

import pytest
from aiohttp import web

from oci.errors import RegistryProtocolError, RegistryUnavailableError
from oci.reference import parse

MODULE = b"\0asm\1\0\0\0" + bytes(range(256)) * 4000


class TestBrokenBlobs:
    """A host that breaks off a blob is asked for the rest of it; then the next one is."""

    @staticmethod
    def breaking(registry, *, at: int, ranges: bool = True, times: int = 1):
        """Serves a blob, and ends the connection `times` times after `at` bytes of what was asked for."""
        left = [times]

        async def answer(request: web.Request) -> web.StreamResponse:
            start = int(request.headers.get("Range", "bytes=0-")[6:-1]) if ranges else 0
            response = web.StreamResponse(status=206 if start else 200)
            if start:
                response.headers["Content-Range"] = f"bytes {start}-{len(MODULE) - 1}/{len(MODULE)}"
            response.content_length = len(MODULE) - start
            await response.prepare(request)
            left[0] -= 1
            if left[0] < 0:
                await response.write(MODULE[start:])
                return response
            await response.write(MODULE[start : start + at])
            assert request.transport is not None
            request.transport.close()
            return response

        registry.faults["GET /v2/me/app/blobs"] = answer

    async def test_is_continued(self, registry, store) -> None:
        registry.image("me/app:v1", MODULE)
        self.breaking(registry, at=300_000, times=3)
        image = await store.pull(registry.reference("me/app:v1"))
        assert image.module.read_bytes() == MODULE
        asked = [request.headers.get("Range") for request in registry.requests if "/blobs/" in request.path]
        assert asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]

    async def test_is_begun_again_by_a_host_that_knows_no_ranges(self, registry, store) -> None:
        registry.image("me/app:v1", MODULE)
        self.breaking(registry, at=300_000, ranges=False)
        image = await store.pull(registry.reference("me/app:v1"))
        assert image.module.read_bytes() == MODULE

    async def test_is_given_up_after_a_while(self, registry, store) -> None:
        registry.image("me/app:v1", MODULE)
        self.breaking(registry, at=1000, times=100)
        with pytest.raises(RegistryUnavailableError, match="ended after 1000 bytes"):
            await store.pull(registry.reference("me/app:v1"))
        assert sum("/blobs/" in request.path for request in registry.requests) == 6

    async def test_is_given_up_when_nothing_more_comes(self, registry, store) -> None:
        registry.image("me/app:v1", MODULE)
        self.breaking(registry, at=0, times=100)
        with pytest.raises(RegistryUnavailableError):
            await store.pull(registry.reference("me/app:v1"))
        assert sum("/blobs/" in request.path for request in registry.requests) == 1

    @pytest.mark.parametrize("given", ["", "bytes 0-99/100", "bytes 300000-400000/1024008", "lines 1-2/3"])
    async def test_with_another_part_than_was_asked_for(self, registry, store, given: str) -> None:
        registry.image("me/app:v1", MODULE)

        async def answer(request: web.Request) -> web.StreamResponse:
            if "Range" in request.headers:
                return web.Response(status=206, body=MODULE[:100], headers={"Content-Range": given})
            return await registry.cut(MODULE[:300_000], len(MODULE))(request)

        registry.faults["GET /v2/me/app/blobs"] = answer
        with pytest.raises(RegistryProtocolError, match="asked for what follows byte 300000") as caught:
            await store.pull(registry.reference("me/app:v1"))
        assert repr(given) in str(caught.value)

    async def test_is_continued_by_the_next_host(self, registry, other_registry, configured) -> None:
        registry.image("me/app:v1", MODULE)
        self.breaking(other_registry, at=-1, times=0)
        registry.faults["GET /v2/me/app/blobs"] = registry.cut(MODULE[:300_000], len(MODULE))
        store = configured(f'server = "http://{other_registry.address}"\n[host."http://{registry.address}"]')
        image = await store.pull(parse("upstream.example/me/app:v1"))
        assert image.module.read_bytes() == MODULE
        assert [request.headers["Range"] for request in other_registry.requests] == ["bytes=300000-"]
