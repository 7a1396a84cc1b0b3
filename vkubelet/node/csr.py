"""Asking the cluster to sign a certificate (certificates.k8s.io/v1).

It exists for the two certificates that a kubelet asks for, its client's and its server's. A request is named
after its key, so that an agent that was killed while it waited finds its own request again. It must not
know where keys and certificates are kept.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import logging
import time
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.objects import ObjectMeta
from vkubelet.api.struct import Struct

log = logging.getLogger(__name__)

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_IDLE_TIMEOUT = 180.0
_WATCH_SECONDS = 300


class CertificateError(Exception):
    """A certificate that cannot be had or used; one line with the cause."""


@dataclass(frozen=True)
class Signer:
    """A signer of the cluster and the usages that it demands of an elliptic curve key, in order."""

    name: str
    usages: tuple[str, ...]


CLIENT = Signer("kubernetes.io/kube-apiserver-client-kubelet", ("digital signature", "client auth"))
SERVING = Signer("kubernetes.io/kubelet-serving", ("digital signature", "server auth"))


class _Condition(Struct):
    type: str
    status: str = ""
    reason: str = ""
    message: str = ""


class _RequestStatus(Struct):
    conditions: list[_Condition] | None = None
    certificate: str = ""


class _Request(Struct):
    metadata: ObjectMeta
    status: _RequestStatus = msgspec.field(default_factory=_RequestStatus)


class _Event(Struct):
    type: str
    object: msgspec.Raw


_request_decoder = msgspec.json.Decoder(_Request)
_event_decoder = msgspec.json.Decoder(_Event)


def new_key() -> bytes:
    """A private key on the curve P-256, as PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises ValueError for what is no private key on an elliptic curve."""
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"expected an elliptic curve key, not {type(key).__name__}")  # noqa: TRY004
    return key


def signing_request(
    node_name: str, key_pem: bytes, dns_names: Iterable[str] = (), addresses: Iterable[str] = ()
) -> bytes:
    """The PEM of a request for `system:node:NAME` of the group `system:nodes`, as the signers demand."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node_name}"),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    names = alternative_names(dns_names, addresses)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(load_key(key_pem), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def alternative_names(dns_names: Iterable[str], addresses: Iterable[str]) -> list[x509.GeneralName]:
    """The names in a stable order."""
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(set(dns_names))]
    return names + [x509.IPAddress(ipaddress.ip_address(text)) for text in sorted(set(addresses))]


def request_name(signer: Signer, request_pem: bytes, key_pem: bytes) -> str:
    """The object's name: the same for the same key, signer and wishes, whatever the signature's salt."""
    request = x509.load_pem_x509_csr(request_pem)
    digest = hashlib.sha256()
    for part in (
        load_key(key_pem)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        request.subject.public_bytes(),
        *(extension.value.public_bytes() for extension in request.extensions),
        signer.name.encode(),
    ):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return f"node-csr-{digest.hexdigest()[:40]}"


def request_object(signer: Signer, name: str, request_pem: bytes) -> dict[str, Any]:
    """The CertificateSigningRequest."""
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode(request_pem).decode(),
            "signerName": signer.name,
            "usages": list(signer.usages),
        },
    }


async def obtain(
    client: ApiClient, signer: Signer, request_pem: bytes, key_pem: bytes, *, timeout: float
) -> bytes:
    """The signed certificate chain as PEM.

    Asks, or finds what was asked before with the same key, and waits for up to `timeout` seconds, through
    outages. Raises CertificateError when the request was denied, failed, or is not signed in time, and
    ApiError when it may not be made at all.
    """
    name = request_name(signer, request_pem, key_pem)
    body = msgspec.json.encode(request_object(signer, name, request_pem))
    backoff = Backoff(0.5, 10.0)
    deadline = time.monotonic() + timeout
    told = False
    while True:
        pause: float | None = None
        try:
            found = await _ask(client, name, body)
            certificate = _issued(found)
            if certificate is None and not told:
                log.info(
                    "waiting for %s to sign %s (kubectl certificate approve %s)", signer.name, name, name
                )
                told = True
            if certificate is None:
                certificate = await _watch(client, found, deadline - time.monotonic())
            if certificate is not None:
                return certificate
            pause = backoff.delay()
        except ApiError as error:
            if error.status < 500 and error.status not in (404, 409, 410, 429):
                raise
            log.info("certificate request %s: %s", name, error)
            pause = backoff.delay(error.retry_after)
        except (ApiUnavailableError, msgspec.DecodeError) as error:
            log.warning("certificate request %s: %s", name, error)
            pause = backoff.delay()
        left = deadline - time.monotonic()
        if left <= 0:
            raise CertificateError(
                f"certificate request {name} was not signed within {timeout:.0f} s: "
                f"approve it (kubectl certificate approve {name}) or see why {signer.name} does not sign"
            )
        if pause is not None:
            await asyncio.sleep(min(pause, left))


async def _ask(client: ApiClient, name: str, body: bytes) -> _Request:
    try:
        answer = await client.post(REQUESTS, body)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
        answer = await client.get(f"{REQUESTS}/{name}")
    return _request_decoder.decode(answer)


async def _watch(client: ApiClient, found: _Request, left: float) -> bytes | None:
    """Follow the request until it is decided; None when the watch ended before."""
    query = {
        "watch": "1",
        "fieldSelector": f"metadata.name={found.metadata.name}",
        "resourceVersion": found.metadata.resource_version,
        "allowWatchBookmarks": "true",
        "timeoutSeconds": str(_WATCH_SECONDS),
    }
    try:
        async with (
            asyncio.timeout(max(left, 0.0)),
            aclosing(client.watch(REQUESTS, query, idle_timeout=_IDLE_TIMEOUT)) as lines,
        ):
            async for line in lines:
                event = _event_decoder.decode(line)
                if event.type in ("DELETED", "ERROR"):
                    return None
                if event.type != "BOOKMARK":
                    certificate = _issued(_request_decoder.decode(event.object))
                    if certificate is not None:
                        return certificate
    except TimeoutError:
        return None
    return None


def _issued(request: _Request) -> bytes | None:
    """The certificate, or None as long as there is none. Raises CertificateError when there never will be."""
    for condition in request.status.conditions or ():
        if condition.type in ("Denied", "Failed"):
            raise CertificateError(
                f"certificate request {request.metadata.name} was {condition.type.lower()}: "
                f"{condition.reason}: {condition.message}"
            )
    return base64.b64decode(request.status.certificate) if request.status.certificate else None
