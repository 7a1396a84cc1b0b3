"""What a kubeconfig says: where the API server is, whom to trust and who we are.

It exists to keep kubernetes_asyncio's loader (contexts, exec plugins, tokens, certificates, OIDC) behind one
immutable value, so that the client's hot path touches no file and no lock. It must send no request to the
API server. Key material that the loader writes out for OpenSSL is removed as soon as it has been read.
"""

from __future__ import annotations

import asyncio
import atexit
import binascii
import hashlib
import ssl
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import kube_config
from kubernetes_asyncio.config.config_exception import ConfigException

_EXPIRY_MARGIN = 300.0
"""Seconds before its expiry at which an exec plugin's token is asked for again."""

_TOKEN_FILE_LIFE = 60.0
"""Seconds for which a token read from a file is used: client-go's period."""

_LOAD_TIMEOUT = 60.0
"""Seconds that a kubeconfig may take to load, an exec plugin's run included."""


class KubeconfigError(Exception):
    """A kubeconfig that cannot be used; one line naming the file and the cause."""


@dataclass(frozen=True)
class Credentials:
    """A kubeconfig's current context, ready for use."""

    server: str
    """`https://host:port`, with the path prefix of a proxying server and without a slash at its end."""
    tls: ssl.SSLContext | None
    tls_digest: bytes
    """Of all that `tls` was made from: equal ones share a context, and with it the open connections."""
    ca_data: bytes | None
    authorization: str | None
    server_hostname: str | None
    proxy: str | None
    renewable: bool
    """Whether loading the kubeconfig again can bring another token: on a 401 it is worth trying."""
    stale_at: float
    """On `time.monotonic`'s clock; infinite when nothing expires by itself."""


async def load(path: Path, former: Credentials | None = None) -> Credentials:
    """Read `path`'s current context, which was read before as `former`. Raises KubeconfigError."""
    _, user = await asyncio.to_thread(entries, path)
    configuration = Configuration()
    with tempfile.TemporaryDirectory(prefix="vkubelet-") as directory:
        try:
            async with asyncio.timeout(_LOAD_TIMEOUT):
                loader = await kube_config.load_kube_config(
                    config_file=str(path), client_configuration=configuration, temp_file_path=directory
                )
            # No await from here to the clean-up: the loader's table of temporary files is its module's own.
            return _credentials(configuration, loader, user, former)
        except TimeoutError as error:
            raise KubeconfigError(f"kubeconfig {path}: not loaded within {_LOAD_TIMEOUT:.0f} s") from error
        except binascii.Error as error:
            raise KubeconfigError(f"kubeconfig {path}: a -data field is not base64: {error}") from error
        except ssl.SSLError as error:
            cause = f"certificate or key unusable: {error}"
            raise KubeconfigError(f"kubeconfig {path}: {cause}") from error
        except (ConfigException, AssertionError, OSError, ValueError, LookupError, TypeError) as error:
            raise KubeconfigError(f"kubeconfig {path}: {_one_line(error)}") from error
        finally:
            kube_config._cleanup_temp_files()
            atexit.unregister(kube_config._cleanup_temp_files)


def entries(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The current context's cluster and user as they are written in `path`. Raises KubeconfigError.

    It has the checks whose failures the loader words badly. Blocks: call it in a thread.
    """
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise KubeconfigError(f"kubeconfig {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise KubeconfigError(f"kubeconfig {path}: not YAML: {_one_line(error)}") from error
    if not isinstance(document, dict):
        raise KubeconfigError(f"kubeconfig {path}: expected a mapping with clusters, users and contexts")
    current = document.get("current-context")
    if not current:
        raise KubeconfigError(f"kubeconfig {path}: current-context is not set")
    context = _named(document, "contexts", current, "context", path)
    cluster = _named(document, "clusters", context.get("cluster"), "cluster", path)
    server = urlsplit(str(cluster.get("server") or ""))
    if server.scheme not in ("http", "https") or not server.hostname:
        name, text = context.get("cluster"), cluster.get("server") or ""
        raise KubeconfigError(f"kubeconfig {path}: cluster {name!r}: server {text!r} is no URL")
    user = _named(document, "users", context["user"], "user", path) if context.get("user") else {}
    return cluster, user


def _named(document: dict[str, Any], kind: str, name: object, content: str, path: Path) -> dict[str, Any]:
    listed = document.get(kind)
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(content)
            return found if isinstance(found, dict) else {}
    raise KubeconfigError(f"kubeconfig {path}: no entry {name!r} in {kind}")


def _credentials(
    configuration: Any, loader: Any, user: dict[str, Any], former: Credentials | None
) -> Credentials:
    server = str(configuration.host)
    digest = _tls_digest(configuration)
    tls: ssl.SSLContext | None = None
    if former is not None and former.tls_digest == digest:
        tls = former.tls
    elif server.startswith("https"):
        tls = _tls_context(configuration)
    ca_data = Path(configuration.ssl_ca_cert).read_bytes() if configuration.ssl_ca_cert else None
    stale_at = float("inf")
    if "tokenFile" in user:
        stale_at = time.monotonic() + _TOKEN_FILE_LIFE
    expiry = getattr(loader, "exec_plugin_expiry", None)
    if expiry is not None:
        stale_at = time.monotonic() + expiry.timestamp() - time.time() - _EXPIRY_MARGIN
    return Credentials(
        server=server,
        tls=tls,
        tls_digest=digest,
        ca_data=ca_data,
        authorization=configuration.api_key.get("BearerToken"),
        server_hostname=configuration.tls_server_name or None,
        proxy=configuration.proxy or _proxy_of_environment(server),
        renewable=bool({"exec", "tokenFile", "auth-provider"} & user.keys()),
        stale_at=stale_at,
    )


def _tls_digest(configuration: Any) -> bytes:
    digest = hashlib.sha256(f"{configuration.host} {configuration.verify_ssl}".encode())
    for name in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file):
        digest.update(hashlib.sha256(Path(name).read_bytes()).digest() if name else b"none")
    return digest.digest()


def _tls_context(configuration: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    # Go checks no more than RFC 5280's path validation, and many clusters' CAs lack what strict asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _proxy_of_environment(server: str) -> str | None:
    """HTTPS_PROXY and its like, read once: asking the environment at each request is dear."""
    url = urlsplit(server)
    if urllib.request.proxy_bypass(url.netloc):
        return None
    return urllib.request.getproxies().get(url.scheme)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
