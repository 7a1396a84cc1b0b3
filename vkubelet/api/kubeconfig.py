"""What a kubeconfig says, resolved by kubernetes_asyncio in a short-lived process of its own.

It exists because the loader (contexts, exec plugins, tokens, OIDC) is the library's, and with the loader come
generated models of forty megabytes, which an agent would hold for all its life to read one file. It must send
no request and make no TLS context. `kubeconfig_loader` is the other side of the pipe.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from providers import programs

_LOAD_TIMEOUT = 60.0
"""Seconds that a kubeconfig may take to load, an exec plugin's run included."""


class KubeconfigError(Exception):
    """A kubeconfig that cannot be used; one line naming the file and the cause."""


class Resolved(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The current context. Files are named, not quoted: no key goes through more hands than it must."""

    server: str = ""
    verify_tls: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    authorization: str | None = None
    server_hostname: str | None = None
    proxy: str | None = None
    token_file: str | None = None
    """Where `authorization` was read from: a file that others renew."""
    expires_at: float | None = None
    """When an exec plugin's token does, in seconds since the epoch."""
    renewable: bool = False
    """Whether another load can bring another token."""
    error: str = ""
    """Why there is nothing else, in one line."""


_decoder = msgspec.json.Decoder(Resolved)


async def resolve(path: Path, directory: str) -> Resolved:
    """The current context of the kubeconfig at `path`. Raises KubeconfigError.

    Certificates and keys that stand in the kubeconfig itself are written to files in `directory`, which the
    caller removes.
    """
    creating = asyncio.create_subprocess_exec(
        # -P: the directory that the agent was started from is no place to import from.
        *(sys.executable, "-P", "-m", "vkubelet.api.kubeconfig_loader", str(path), directory),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        # With its group: a plugin that hangs is the loader's child.
        ended = await programs.run(creating, _LOAD_TIMEOUT, leads_group=True)
    except TimeoutError as error:
        raise KubeconfigError(f"kubeconfig {path}: not loaded within {_LOAD_TIMEOUT:.0f} s") from error
    try:
        resolved = _decoder.decode(ended.output)
    except msgspec.DecodeError as error:
        last = one_line(ended.errors.decode(errors="replace").strip().rpartition("\n")[2])
        text = f"its loader ended with code {ended.code}: {last}"
        raise KubeconfigError(f"kubeconfig {path}: {text}") from error
    if resolved.error:
        raise KubeconfigError(f"kubeconfig {path}: {resolved.error}")
    return resolved


def entries(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The current context's cluster and user as they are written in `path`. Raises KubeconfigError.

    It has the checks whose failures the loader words badly. Blocks: call it in a thread.
    """
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise KubeconfigError(f"kubeconfig {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise KubeconfigError(f"kubeconfig {path}: not YAML: {one_line(error)}") from error
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


def one_line(error: object) -> str:
    """A cause as it fits into a line of the log."""
    return " ".join(str(error).split()) or type(error).__name__
