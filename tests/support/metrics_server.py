"""The real metrics-server on loopback, registered with a cluster as kubectl and autoscalers expect it.

It runs as its own manifests have it, but for where: beside the control plane and not in a pod. The API server
finds it by a service that is another name for localhost, and knows it by a certificate made here.
"""

from __future__ import annotations

import base64
import datetime
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from peers import build_peer
from serviceaccount import account, binding, manifest, role_with_binding, rule, write_kubeconfig

NAME, NAMESPACE = "metrics-server", "kube-system"
API = "v1beta1.metrics.k8s.io"
STOP_TIMEOUT = 20.0
"""Seconds: it lets its clients finish."""


@dataclass
class MetricsServer:
    """Started and stopped by its test; its objects stay in the cluster no longer than it."""

    cluster: Any
    directory: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Return once the API server serves what it says."""
        program = build_peer(NAME)
        port = _free_port()
        certificate = _serving_certificate(self.directory)
        self.cluster.kubectl(
            "apply", "--filename=-", input=manifest(*_identity(), *_service(port, certificate))
        )
        kubeconfig = self.directory / "kubeconfig"
        write_kubeconfig(self.cluster, NAME, NAMESPACE, kubeconfig)
        arguments = [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={self.directory / 'serving.crt'}",
            f"--tls-private-key-file={self.directory / 'serving.key'}",
            f"--kubelet-certificate-authority={self.cluster.ready.ca}",
            "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
            "--kubelet-use-node-status-port",
            "--metric-resolution=10s",  # its least
            "--kubelet-request-timeout=5s",
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, *arguments], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        self.cluster.kubectl("wait", "--for=condition=Available", f"apiservice/{API}", "--timeout=60s")

    def stop(self) -> None:
        """End it and take its objects out of the cluster, which would look for it otherwise."""
        objects = manifest(*_identity(), *_service(1, b""))
        self.cluster.kubectl("delete", "--ignore-not-found", "--filename=-", input=objects)
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=STOP_TIMEOUT)

    @property
    def log(self) -> Path:
        return self.directory / "metrics-server.log"


def _identity() -> list[dict[str, Any]]:
    """What it may do, by its own manifests."""
    reader = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{NAME}-auth-reader", "namespace": NAMESPACE},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": "extension-apiserver-authentication-reader",
        },
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }
    watching = rule("", ["pods", "nodes"], "get", "list", "watch")
    scraping = rule("", ["nodes/metrics"], "get")
    return [
        account(NAME, NAMESPACE),
        reader,
        binding(f"{NAME}:system:auth-delegator", "system:auth-delegator", NAME, NAMESPACE),
        *role_with_binding(f"system:{NAME}", NAME, NAMESPACE, scraping, watching),
    ]


def _service(port: int, certificate: bytes) -> list[dict[str, Any]]:
    """Where the API server finds it, and by which certificate it knows it."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": API},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {"name": NAME, "namespace": NAMESPACE, "port": port},
                "caBundle": base64.b64encode(certificate).decode(),
            },
        },
    ]


def _serving_certificate(directory: Path) -> bytes:
    """Write key and certificate, its own authority, for the service's name; returns the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"{NAME}.{NAMESPACE}.svc")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (directory / "serving.crt").write_bytes(pem)
    (directory / "serving.key").touch(mode=0o600)
    (directory / "serving.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
