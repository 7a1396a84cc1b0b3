"""The trust anchors of ClusterTrustBundles, for projected volumes.

It exists to hold the kubelet's rules of which bundles are meant and what is made of them, and to watch
bundles from the first pod that names one on. It must not know where the anchors are written.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

import msgspec

from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.informer import Informer
from vkubelet.api.objects import ObjectMeta
from vkubelet.api.struct import Struct
from vkubelet.api.volumes import ClusterTrustBundleProjection, LabelSelector
from vkubelet.pods.volumes.errors import SetUpError

_GROUP = "/apis/certificates.k8s.io"
_VERSIONS = ("v1", "v1beta1")
_RESOURCE = "clustertrustbundles"
_SYNC_TIMEOUT = 10.0
_UNSUPPORTED = "ClusterTrustBundle projection is not supported in static kubelet mode"
"""The kubelet's text, also where the API server does not have the resource."""

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\s*(.*?)-----END CERTIFICATE-----", re.DOTALL)


class _Spec(Struct):
    signer_name: str = ""
    trust_bundle: str = ""


class ClusterTrustBundle(Struct):
    """A bundle of trust anchors, in PEM."""

    metadata: ObjectMeta
    spec: _Spec = msgspec.field(default_factory=_Spec)


class _Resource(Struct):
    name: str = ""


class _ResourceList(Struct):
    resources: list[_Resource] | None = None


class TrustBundles:
    """The cluster's bundles, known from the first question on. Use from one event loop."""

    def __init__(self, client: ApiClient | None, on_change: Callable[[], None]) -> None:
        """`on_change` is called when any bundle is another; without a client there are none."""
        self._client = client
        self._on_change = on_change
        self._informer: Informer[ClusterTrustBundle] | None = None
        self._found = asyncio.Event()

    async def run(self) -> NoReturn:
        """Watch the bundles from the first question on, until cancelled."""
        await self._found.wait()
        assert self._informer is not None  # noqa: S101  it was found
        await self._informer.run()

    async def anchors(self, wanted: ClusterTrustBundleProjection) -> bytes:
        """The anchors that a projection means, in PEM, each once. Raises SetUpError."""
        if wanted.name is None and wanted.signer_name is None:
            raise SetUpError("ClusterTrustBundle projection requires either name or signerName to be set")
        return chosen(await self._bundles(), wanted)

    async def _bundles(self) -> Iterable[ClusterTrustBundle]:
        if self._client is None:
            raise SetUpError(_UNSUPPORTED)
        if self._informer is None:
            path = await self._path(self._client)
            self._informer = self._informer or Informer(
                self._client,
                path,
                "",
                ClusterTrustBundle,
                on_change=lambda _: self._on_change(),
                on_delete=lambda _: self._on_change(),
            )
            self._found.set()
        try:
            async with asyncio.timeout(_SYNC_TIMEOUT):
                await self._informer.synced.wait()
        except TimeoutError:
            raise SetUpError("ClusterTrustBundle informer has not yet synced") from None
        return self._informer.items()

    async def _path(self, client: ApiClient) -> str:
        """Where the API server has them. Raises SetUpError."""
        for version in _VERSIONS:
            try:
                answer = await client.get(f"{_GROUP}/{version}")
                found = msgspec.json.decode(answer, type=_ResourceList)
            except (ApiError, ApiUnavailableError, msgspec.DecodeError) as error:
                if isinstance(error, ApiError) and error.status == 404:
                    continue
                raise SetUpError(f"failed to determine which informer manager to choose: {error}") from error
            if any(resource.name == _RESOURCE for resource in found.resources or ()):
                return f"{_GROUP}/{version}/{_RESOURCE}"
        raise SetUpError(_UNSUPPORTED)


def chosen(bundles: Iterable[ClusterTrustBundle], wanted: ClusterTrustBundleProjection) -> bytes:
    """What a projection means of these bundles. Raises SetUpError if that is none, and it is not optional."""
    if wanted.name is not None:
        meant = [bundle for bundle in bundles if bundle.metadata.name == wanted.name]
        cause = (
            "while getting ClusterTrustBundle: "
            f'clustertrustbundle.certificates.k8s.io "{wanted.name}" not found'
        )
    else:
        meant = [
            bundle
            for bundle in bundles
            if bundle.spec.signer_name == wanted.signer_name
            and selects(wanted.label_selector, bundle.metadata.labels or {})
        ]
        cause = "combination of signerName and labelSelector matched zero ClusterTrustBundles"
    if not meant and not wanted.optional:
        raise SetUpError(cause)
    return normalized(bundle.spec.trust_bundle for bundle in meant)


def normalized(bundles: Iterable[str]) -> bytes:
    """The certificates of the bundles, each once, without what stands between them.

    Their order has no meaning; it is kept the same for the same certificates, so that files do not change.
    """
    found: set[bytes] = set()
    for text in bundles:
        for match in _PEM.finditer(text):
            try:
                found.add(base64.b64decode("".join(match[1].split()), validate=True))
            except binascii.Error as error:
                raise SetUpError(f"while normalizing trust anchors: {error}") from error
    blocks = []
    for der in sorted(found):
        encoded = base64.b64encode(der).decode()
        lines = [encoded[start : start + 64] for start in range(0, len(encoded), 64)]
        blocks.append("\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]))
    return "".join(blocks).encode()


def selects(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels: none takes nothing, an empty one everything.

    Raises SetUpError for an operator that there is not.
    """
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.match_labels or {}).items()):
        return False
    for requirement in selector.match_expressions or ():
        value = labels.get(requirement.key)
        match requirement.operator:
            case "In":
                holds = value in (requirement.values or ())
            case "NotIn":
                holds = value not in (requirement.values or ())
            case "Exists":
                holds = value is not None
            case "DoesNotExist":
                holds = value is None
            case other:
                raise SetUpError(
                    f'while parsing label selector: "{other}" is not a valid label selector operator'
                )
        if not holds:
            return False
    return True
