"""Who may do what in the dev cluster: nodes get their certificates, and nothing that is not theirs."""

from __future__ import annotations

import base64
import ipaddress
import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SERVING = "kubernetes.io/kubelet-serving"
CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
SERVER_USAGES = ("digital signature", "server auth")
CLIENT_USAGES = ("digital signature", "client auth")


def request_manifest(
    key: ec.EllipticCurvePrivateKey,
    *,
    signer: str,
    usages: Sequence[str],
    common_name: str,
    organization: str = "system:nodes",
    names: Sequence[x509.GeneralName] = (),
) -> dict[str, object]:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    text = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": f"test-{uuid.uuid4().hex[:12]}"},
        "spec": {
            "signerName": signer,
            "usages": list(usages),
            "request": base64.b64encode(text).decode(),
        },
    }


def submit(cluster, manifest, kubeconfig: Path, outcome: str) -> x509.Certificate | None:
    """Create the request, wait for its outcome, and return the certificate if one was issued."""
    name = manifest["metadata"]["name"]
    cluster.kubectl("create", "--filename=-", input=json.dumps(manifest), kubeconfig=kubeconfig)
    cluster.kubectl("wait", f"csr/{name}", f"--for={outcome}", "--timeout=60s")
    found = json.loads(cluster.kubectl("get", "csr", name, "--output=json"))
    issued = found["status"].get("certificate")
    return x509.load_pem_x509_certificate(base64.b64decode(issued)) if issued else None


ISSUED = "jsonpath={.status.certificate}"
DENIED = "condition=Denied"


class Identity:
    """A node's client certificate, got as a kubelet gets it, in a kubeconfig."""

    def __init__(self, cluster, directory: Path, name: str) -> None:
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        manifest = request_manifest(
            self.key, signer=CLIENT, usages=CLIENT_USAGES, common_name=f"system:node:{name}"
        )
        certificate = submit(cluster, manifest, cluster.bootstrap_kubeconfig, ISSUED)
        assert certificate is not None
        self.certificate = certificate
        document = yaml.safe_load(cluster.kubeconfig.read_text())
        key_text = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        document["users"][0]["user"] = {
            "client-certificate-data": base64.b64encode(
                certificate.public_bytes(serialization.Encoding.PEM)
            ).decode(),
            "client-key-data": base64.b64encode(key_text).decode(),
        }
        self.kubeconfig = directory / f"{name}.kubeconfig"
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(yaml.safe_dump(document))


@pytest.fixture(scope="module")
def identity(cluster, tmp_path_factory) -> Identity:
    return Identity(cluster, tmp_path_factory.mktemp("identity"), "csr-node")


def test_a_bootstrap_token_gets_a_node_its_certificate(identity):
    subject = identity.certificate.subject.rfc4514_string()
    assert "CN=system:node:csr-node" in subject
    assert "O=system:nodes" in subject


def test_a_bootstrap_token_is_good_for_nothing_else(cluster):
    answer = cluster.kubectl(
        "get", "secrets", "--namespace=kube-system", check=False, kubeconfig=cluster.bootstrap_kubeconfig
    )
    assert "Forbidden" in answer


def test_a_node_changes_itself_and_no_other(cluster, identity):
    for name in (identity.name, "somebody-else"):
        manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        cluster.kubectl("create", "--filename=-", input=json.dumps(manifest))
    try:

        def label(name: str, text: str) -> str:
            return cluster.kubectl("label", "node", name, text, check=False, kubeconfig=identity.kubeconfig)

        assert "labeled" in label(identity.name, "example.com/mine=yes")
        assert "only its own Node object" in label("somebody-else", "example.com/mine=yes")
        replaced = cluster.kubectl(
            "replace",
            "--raw=/api/v1/nodes/somebody-else",
            "--filename=-",
            input=json.dumps(manifest),
            check=False,
            kubeconfig=identity.kubeconfig,
        )
        assert "is not allowed to modify node" in replaced
        assert "is not allowed" in label(identity.name, "node-restriction.kubernetes.io/team=admins")
    finally:
        cluster.kubectl("delete", "node", identity.name, "somebody-else")


def test_a_node_reads_no_secret_but_its_pods(cluster, identity):
    cluster.kubectl("create", "secret", "generic", "not-a-nodes", "--from-literal=key=value")
    try:
        answer = cluster.kubectl("get", "secret", "not-a-nodes", check=False, kubeconfig=identity.kubeconfig)
        assert "no relationship found between node" in answer
    finally:
        cluster.kubectl("delete", "secret", "not-a-nodes")


def test_a_serving_certificate_for_the_nodes_own_names_is_issued(cluster, identity):
    names = [
        x509.DNSName(identity.name),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    manifest = request_manifest(
        identity.key,
        signer=SERVING,
        usages=SERVER_USAGES,
        common_name=f"system:node:{identity.name}",
        names=names,
    )
    certificate = submit(cluster, manifest, identity.kubeconfig, ISSUED)
    assert certificate is not None
    issued = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(issued) == set(names)


OWN_CN = "system:node:csr-node"
OWN_NAME = x509.DNSName("csr-node")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"names": [x509.DNSName("kubernetes")]}, "DNS name", id="another-dns-name"),
        pytest.param(
            {"names": [OWN_NAME, x509.DNSName("*.com")]}, "DNS name", id="a-wildcard-beside-its-own"
        ),
        pytest.param(
            {"names": [x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]},
            "address 192.0.2.1",
            id="an-address",
        ),
        pytest.param({"names": [x509.UniformResourceIdentifier("spiffe://x/y")]}, "URIs", id="a-uri"),
        pytest.param(
            {"names": [OWN_NAME, x509.RFC822Name("a@example.com")]}, "e-mail", id="an-e-mail-address"
        ),
        pytest.param({"names": []}, "neither", id="no-names"),
        pytest.param({"organization": "system:masters"}, "organization", id="another-organization"),
        pytest.param({"usages": ("server auth", "client auth")}, "usage", id="a-clients-usage"),
        pytest.param({"usages": ("digital signature",)}, "missing", id="no-server-usage"),
    ],
)
def test_a_serving_certificate_for_anything_else_is_denied(cluster, identity, change, reason):
    wanted = {"usages": SERVER_USAGES, "common_name": OWN_CN, "names": [OWN_NAME], **change}
    manifest = request_manifest(identity.key, signer=SERVING, **wanted)
    assert submit(cluster, manifest, identity.kubeconfig, DENIED) is None
    found = json.loads(cluster.kubectl("get", "csr", manifest["metadata"]["name"], "--output=json"))
    (condition,) = found["status"]["conditions"]
    assert reason in condition["message"]


def test_a_node_cannot_even_ask_for_another_nodes_certificate(cluster, identity):
    manifest = request_manifest(
        identity.key,
        signer=SERVING,
        usages=SERVER_USAGES,
        common_name="system:node:other",
        names=[OWN_NAME],
    )
    answer = cluster.kubectl(
        "create", "--filename=-", input=json.dumps(manifest), check=False, kubeconfig=identity.kubeconfig
    )
    assert f"can only create a node CSR with CN={OWN_CN}" in answer


def test_a_serving_certificate_asked_for_by_no_node_is_denied(cluster, identity):
    manifest = request_manifest(
        identity.key, signer=SERVING, usages=SERVER_USAGES, common_name=OWN_CN, names=[OWN_NAME]
    )
    assert submit(cluster, manifest, cluster.kubeconfig, DENIED) is None
