"""The process that reads a kubeconfig: `python -m vkubelet.api.kubeconfig_loader PATH DIRECTORY`.

It writes one line of JSON, a `Resolved`, and ends. It exists beside `kubeconfig` so that the agent never
imports kubernetes_asyncio; nothing else may import this module. Certificates and keys that stand in the
kubeconfig go to files in DIRECTORY and stay there: who named the directory reads and removes them.
"""

from __future__ import annotations

import asyncio
import atexit
import binascii
import logging
import sys
from pathlib import Path
from typing import Any

import msgspec
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import kube_config
from kubernetes_asyncio.config.config_exception import ConfigException

from vkubelet.api.kubeconfig import KubeconfigError, Resolved, entries, one_line

_RENEWABLE = frozenset({"exec", "tokenFile", "auth-provider"})
_BEFORE_A_TOKEN = frozenset({"token", "exec", "auth-provider"})
"""What the loader prefers to a tokenFile."""


async def _resolve(path: Path, directory: str) -> Resolved:
    _, user = entries(path)
    configuration: Any = Configuration()
    loader = await kube_config.load_kube_config(
        config_file=str(path), client_configuration=configuration, temp_file_path=directory
    )
    token_file = None
    if "tokenFile" in user and not _BEFORE_A_TOKEN & user.keys():
        token_file = str(path.parent / str(user["tokenFile"]))
    expiry = getattr(loader, "exec_plugin_expiry", None)
    return Resolved(
        server=str(configuration.host),
        verify_tls=bool(configuration.verify_ssl),
        ca_file=configuration.ssl_ca_cert or None,
        cert_file=configuration.cert_file or None,
        key_file=configuration.key_file or None,
        authorization=configuration.api_key.get("BearerToken"),
        server_hostname=configuration.tls_server_name or None,
        proxy=configuration.proxy or None,
        token_file=token_file,
        expires_at=None if expiry is None else expiry.timestamp(),
        renewable=bool(_RENEWABLE & user.keys()),
    )


def main() -> None:
    """Resolve the arguments' kubeconfig and print the outcome, a failure too."""
    # Whatever the library logs as an error it raises as well, and the agent logs that.
    logging.disable()
    path, directory = Path(sys.argv[1]), sys.argv[2]
    try:
        resolved = asyncio.run(_resolve(path, directory))
    except binascii.Error as error:
        resolved = Resolved(error=f"a -data field is not base64: {error}")
    except KubeconfigError as error:
        resolved = Resolved(error=str(error).removeprefix(f"kubeconfig {path}: "))
    except (ConfigException, AssertionError, OSError, ValueError, LookupError, TypeError) as error:
        resolved = Resolved(error=one_line(error))
    finally:
        # The loader would remove the files at its end, before they were read.
        atexit.unregister(kube_config._cleanup_temp_files)
    sys.stdout.buffer.write(msgspec.json.encode(resolved))


if __name__ == "__main__":
    main()
