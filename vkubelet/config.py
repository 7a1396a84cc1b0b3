"""The node's configuration: one typed value, made of flags over environment over a YAML file.

It exists so that every option has one name, one type, one default and one sentence of help, wherever it
is set: the flag `--max-pods`, the variable `VKUBELET_MAX_PODS` and the YAML key `maxPods` are the same
field. Names and defaults follow the kubelet's where it has the option. It must not know who uses it.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml


class ConfigError(Exception):
    """A configuration that cannot be used; the text names the source, the field and the cause."""


def _is_root() -> bool:
    return os.geteuid() == 0


def _default_root() -> str:
    if _is_root():
        return "/var/lib/vkubelet"
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return f"{data}/vkubelet"


def _default_run() -> str:
    if _is_root():
        return "/run/vkubelet"
    return f"{os.environ.get('XDG_RUNTIME_DIR') or _default_root()}/vkubelet-run"


def _default_logs() -> str:
    return "/var/log/pods" if _is_root() else f"{_default_root()}/pods-logs"


def _default_node_name() -> str:
    return socket.gethostname().lower()


Help = msgspec.Meta


class Taint(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A node taint; as text `key[=value]:Effect`."""

    key: str
    effect: str
    value: str = ""


WASM_TAINTS = (
    Taint(key="kubernetes.io/arch", value="wasm32-wasi", effect="NoSchedule"),
    Taint(key="kubernetes.io/arch", value="wasm32-wasi", effect="NoExecute"),
)

# The kubelet's, and one of our own: here every container is a process, so a twentieth of them is kept.
EVICTION_HARD = {
    "memory.available": "100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
    "pid.available": "5%",
}

Port = Annotated[int, Help(ge=0, le=65535)]
Positive = Annotated[int, Help(gt=0)]
Percent = Annotated[int, Help(ge=0, le=100)]
Seconds = Annotated[float, Help(gt=0)]
SecondsOrNone = Annotated[float, Help(ge=0)]
ExtendedResource = Annotated[str, Help(pattern=r"^(?!.*kubernetes\.io/)[a-z0-9.-]+/[A-Za-z0-9._-]+$")]


class Config(msgspec.Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every option of `vkubelet run`. Sizes are bytes, times seconds."""

    kubeconfig: str = ""
    bootstrap_kubeconfig: str = ""
    node_name: str = msgspec.field(default_factory=_default_node_name)
    node_ip: str = ""
    node_labels: dict[str, str] = {}
    register_with_taints: tuple[Taint, ...] = WASM_TAINTS
    root_dir: str = msgspec.field(default_factory=_default_root)
    run_dir: str = msgspec.field(default_factory=_default_run)
    pod_logs_dir: str = msgspec.field(default_factory=_default_logs)
    static_pod_path: str = ""
    address: str = "0.0.0.0"  # noqa: S104  the kubelet's default: the API server calls from elsewhere
    port: Port = 10250
    client_ca_file: str = ""
    anonymous_auth: bool = False
    authentication_token_webhook: bool = True
    authentication_token_webhook_cache_ttl: SecondsOrNone = 120.0
    authorization_mode: Annotated[str, Help(pattern="^(Webhook|AlwaysAllow)$")] = "Webhook"
    authorization_webhook_cache_authorized_ttl: SecondsOrNone = 300.0
    authorization_webhook_cache_unauthorized_ttl: SecondsOrNone = 30.0
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    cluster_domain: str = "cluster.local"
    cluster_dns: tuple[Annotated[str, Help(pattern="^[0-9A-Fa-f.:]+$")], ...] = msgspec.field(
        name="clusterDNS", default=()
    )
    resolv_conf: str = "/etc/resolv.conf"
    max_pods: Positive = 1000
    pod_pids_limit: Annotated[int, Help(ge=-1)] = -1
    node_status_update_frequency: Seconds = 10.0
    node_status_report_frequency: Seconds = 300.0
    node_lease_duration_seconds: Positive = 40
    container_log_max_size: Positive = 10 * 1024 * 1024
    container_log_max_files: Annotated[int, Help(ge=2)] = 5
    event_qps: Annotated[float, Help(ge=0)] = 50.0
    event_burst: Positive = 100
    insecure_registries: tuple[str, ...] = ()
    registry_config_dir: str = ""
    image_policy_file: str = ""
    image_credential_provider_config: str = ""
    image_credential_provider_bin_dir: str = ""
    max_parallel_image_pulls: Positive = 5
    registry_pull_qps: Annotated[int, Help(ge=0)] = msgspec.field(name="registryPullQPS", default=5)
    registry_burst: Annotated[int, Help(ge=0)] = 10
    image_gc_high_threshold_percent: Percent = msgspec.field(name="imageGCHighThresholdPercent", default=85)
    image_gc_low_threshold_percent: Percent = msgspec.field(name="imageGCLowThresholdPercent", default=80)
    image_minimum_gc_age: SecondsOrNone = msgspec.field(name="imageMinimumGCAge", default=120.0)
    image_maximum_gc_age: SecondsOrNone = msgspec.field(name="imageMaximumGCAge", default=0.0)
    system_reserved_memory: Annotated[int, Help(ge=0)] = 0
    system_reserved_cpu: Annotated[float, Help(ge=0)] = 0.0
    extended_resources: dict[ExtendedResource, Annotated[int, Help(ge=0)]] = {}
    device_plugin_dir: str = ""
    eviction_hard: dict[str, str] = msgspec.field(default_factory=EVICTION_HARD.copy)
    eviction_soft: dict[str, str] = {}
    eviction_soft_grace_period: dict[str, str] = {}
    eviction_minimum_reclaim: dict[str, str] = {}
    eviction_pressure_transition_period: SecondsOrNone = 300.0
    eviction_max_pod_grace_period: Annotated[int, Help(ge=0)] = 0
    enable_system_log_handler: bool = False
    drain_on_shutdown: bool = False
    streaming_connection_idle_timeout: Seconds = 4 * 3600.0
    toolbox: bool = True
    log_level: Annotated[str, Help(pattern="^(debug|info|warning|error)$")] = "info"
    logging_format: Literal["text", "json"] = "text"
    tracing_endpoint: Annotated[str, Help(pattern=r"^(https?://[^@?#\s]+)?$")] = ""
    tracing_sampling_rate_per_million: Annotated[int, Help(ge=0, le=1_000_000)] = 0

    @property
    def process_limit(self) -> int | None:
        """Processes and threads that a pod may have; None for no limit."""
        return self.pod_pids_limit if self.pod_pids_limit > 0 else None

    @property
    def hosts_directory(self) -> Path | None:
        """Where registries' hosts.toml files are, if there are any."""
        return Path(self.registry_config_dir) if self.registry_config_dir else None

    @property
    def image_policy(self) -> Path | None:
        """Where it is written which signatures images need, if any do."""
        return Path(self.image_policy_file) if self.image_policy_file else None


HELP: Mapping[str, str] = {
    "kubeconfig": "The node's own kubeconfig; written by the bootstrap when it does not exist yet.",
    "bootstrap_kubeconfig": "A kubeconfig with a bootstrap token, used once to ask for a certificate.",
    "node_name": "The name to register under.",
    "node_ip": "The address to report; found by the route to the API server when empty.",
    "node_labels": "Labels to add to the node: key=value, repeated or separated by commas.",
    "register_with_taints": "Taints to register with: key[=value]:Effect, replacing the wasm taints.",
    "root_dir": "What must outlive a boot: images, compiled code, certificates.",
    "run_dir": "State of running containers; best on a tmpfs.",
    "pod_logs_dir": "Container logs in the kubelet's layout.",
    "static_pod_path": "A directory, or a file, of pods to run whatever the API server says; without a "
    "kubeconfig they are all that the node runs.",
    "address": "The address that the kubelet API listens on.",
    "port": "The port of the kubelet API; 0 takes a free one.",
    "client_ca_file": "The CA whose clients may call the kubelet API; the kubeconfig's CA when empty. "
    "It is read again when it changes.",
    "anonymous_auth": "Let callers without credentials ask as system:anonymous.",
    "authentication_token_webhook": "Believe bearer tokens that the API server vouches for (TokenReview).",
    "authentication_token_webhook_cache_ttl": "Seconds that its word on a token holds.",
    "authorization_mode": "Webhook asks the API server what a caller may do; AlwaysAllow asks nobody.",
    "authorization_webhook_cache_authorized_ttl": "Seconds that a permission holds.",
    "authorization_webhook_cache_unauthorized_ttl": "Seconds that a refusal holds.",
    "tls_cert_file": "A serving certificate of your own, instead of one the cluster signs; read again "
    "when it changes.",
    "tls_private_key_file": "The key of tls-cert-file.",
    "cluster_domain": "The cluster's DNS domain, in which pods with a subdomain have their names.",
    "cluster_dns": "Addresses of the cluster's DNS servers, which pods find in their /etc/resolv.conf.",
    "resolv_conf": "The machine's resolver configuration, which that of pods is based on; may be empty.",
    "max_pods": "How many pods the node takes.",
    "pod_pids_limit": "Processes and threads that a pod may have, those of exec included; -1 for no limit.",
    "node_status_update_frequency": "Seconds between two looks at the node's own state.",
    "node_status_report_frequency": "Seconds after which an unchanged node status is posted again.",
    "node_lease_duration_seconds": "Duration of the node's lease; it is renewed every quarter of it.",
    "container_log_max_size": "Bytes after which a container's log file is rotated.",
    "container_log_max_files": "Log files kept for a container, the current one included.",
    "event_qps": "Events a second sent to the API server; 0 for no limit.",
    "event_burst": "Events that may exceed the rate at once.",
    "insecure_registries": "Registries (host[:port]) that are asked over plain HTTP.",
    "registry_config_dir": "A directory of registries' hosts.toml files as containerd's config_path is, with "
    "mirrors, certificates and authorities.",
    "image_policy_file": "A containers-policy.json: which images are taken, by whom they must be signed. All "
    "are when empty.",
    "image_credential_provider_config": "A CredentialProviderConfig, or a directory of them: plugins that "
    "have credentials for images.",
    "image_credential_provider_bin_dir": "The directory that these plugins are in.",
    "max_parallel_image_pulls": "Images pulled at the same time.",
    "registry_pull_qps": "Images a second that registries are asked for; 0 for no limit.",
    "registry_burst": "Images that may exceed the rate at once.",
    "image_gc_high_threshold_percent": "Of the disk in use, from which on unused images are removed; 100 for "
    "never.",
    "image_gc_low_threshold_percent": "Of the disk in use, down to which unused images are removed then.",
    "image_minimum_gc_age": "Seconds for which an image that has come is not removed for its space.",
    "image_maximum_gc_age": "Seconds after which an image that nobody uses is removed anyway; 0 for never.",
    "system_reserved_memory": "Bytes of memory kept from pods.",
    "system_reserved_cpu": "Cores kept from pods.",
    "extended_resources": "Resources of your own that the node has: example.com/widget=4, repeated or "
    "separated by commas.",
    "device_plugin_dir": "Where device plugins have their sockets and find kubelet.sock; when empty, "
    "device-plugins in the root directory.",
    "eviction_hard": "What must be left on the node, else pods are evicted at once: memory.available<100Mi, "
    "nodefs.available<10%; nodefs.inodesFree, imagefs.*, containerfs.*, pid.available. It replaces defaults.",
    "eviction_soft": "The same, but crossed for a grace period before pods are evicted.",
    "eviction_soft_grace_period": "How long a soft threshold may be crossed: memory.available=1m30s.",
    "eviction_minimum_reclaim": "What must be free beyond a threshold once crossed: nodefs.available=1Gi.",
    "eviction_pressure_transition_period": "Seconds for which pressure is reported after it was last seen.",
    "eviction_max_pod_grace_period": "Seconds that pods get at most when a soft threshold ends them.",
    "streaming_connection_idle_timeout": "Seconds after which an exec, attach or port-forward on which "
    "nothing moves is ended.",
    "toolbox": "Give pods a shell and everyday commands, for exec and `kubectl debug`.",
    "enable_system_log_handler": "Show the machine's /var/log at /logs/ of the kubelet API.",
    "drain_on_shutdown": "End all pods when the agent stops, instead of leaving them running.",
    "log_level": "debug, info, warning or error.",
    "logging_format": "text, or json: an object a line with the kubelet's keys.",
    "tracing_endpoint": "The URL of a collector of traces that takes OTLP over HTTP: http://HOST:4318.",
    "tracing_sampling_rate_per_million": "How many of a million pods' starts are traced.",
}

THRESHOLDS = ("eviction_hard", "eviction_soft")
"""Options whose text has the kubelet's `SIGNAL<AMOUNT`."""
_EVICTION = ("eviction_hard", "eviction_soft", "eviction_soft_grace_period", "eviction_minimum_reclaim")
_TAINT = re.compile(r"^([^=:]+)(?:=([^:]*))?:(NoSchedule|PreferNoSchedule|NoExecute)$")


def parse_taint(text: str) -> Taint:
    """`key[=value]:Effect`, as `kubectl taint` takes it."""
    match = _TAINT.match(text.strip())
    if match is None:
        raise ConfigError(f"taint {text!r}: expected key[=value]:NoSchedule|PreferNoSchedule|NoExecute")
    return Taint(key=match[1], value=match[2] or "", effect=match[3])


def _from_text(field: str, text: str) -> Any:
    """What a flag or a variable means: the composite fields have a textual form of their own."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if field in ("node_labels", "extended_resources") or field in _EVICTION:
        mark = "<" if field in THRESHOLDS else "="
        pairs = [part.partition(mark) for part in parts]
        if any(not separator for _, separator, _ in pairs):
            raise ConfigError(f"{field} {text!r}: expected key{mark}value[,key{mark}value]")
        return {key: value for key, _, value in pairs}
    if field == "register_with_taints":
        return [msgspec.to_builtins(parse_taint(part)) for part in parts]
    if field in ("insecure_registries", "cluster_dns"):
        return parts
    return text


def load(flags: Mapping[str, str], environment: Mapping[str, str], file: Path | None) -> Config:
    """Merge the three sources, flags first. Raises ConfigError naming the source and the field."""
    merged: dict[str, Any] = {}
    if file is not None:
        try:
            document = yaml.safe_load(file.read_bytes()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"configuration file {file}: {error}") from error
        merged.update(_checked(document, f"configuration file {file}"))
    by_variable = {f"VKUBELET_{name.upper()}": name for name in HELP}
    from_environment = {by_variable[key]: value for key, value in environment.items() if key in by_variable}
    keys = dict(zip(Config.__struct_fields__, Config.__struct_encode_fields__, strict=True))
    for source, texts in (("environment", from_environment), ("flags", flags)):
        encoded = {keys[name]: _from_text(name, text) for name, text in texts.items()}
        merged.update(_checked(encoded, source))
    return _convert(merged, "configuration")


def _checked(document: Any, source: str) -> dict[str, Any]:
    """`document` itself, once each of its fields has been found valid under the name of its source."""
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: expected a mapping of options")
    _convert(document, source)
    return document


def _convert(document: dict[str, Any], source: str) -> Config:
    try:
        return msgspec.convert(document, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {error}") from error
