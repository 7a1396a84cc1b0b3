"""`/configz`: the node's configuration as a kubelet tells its own.

It exists as a pure function of the configuration: what this node has of k8s.io/kubelet's
KubeletConfiguration, under its names and in its spelling, and nothing else. Paths are told as a kubelet tells
them; what is in the files is not. It must not know what the options do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from vkubelet.config import Config
from vkubelet.logs import verbosity
from vkubelet.pods.backoff import go_duration


class ConfigzRoutes:
    """Implements RouteGroup."""

    def __init__(self, config: Config) -> None:
        """It does not change."""
        self._body = msgspec.json.encode({"kubeletconfig": kubelet_configuration(config)})

    def routes(self) -> Iterable[web.RouteDef]:
        """See RouteGroup. A kubelet's handler looks at no method."""
        return [web.route("*", "/configz", self._configz)]

    def end(self) -> None:
        """See RouteGroup: it ends by itself."""

    async def _configz(self, _: web.Request) -> web.Response:
        return web.Response(body=self._body, content_type="application/json")


def kubelet_configuration(config: Config) -> dict[str, Any]:
    """The KubeletConfiguration (v1beta1) that `config` corresponds to."""
    found: dict[str, Any] = {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "enableServer": True,
        "address": config.address,
        "port": config.port,
        "authentication": {
            "x509": {"clientCAFile": config.client_ca_file} if config.client_ca_file else {},
            "webhook": {
                "enabled": config.authentication_token_webhook,
                "cacheTTL": go_duration(config.authentication_token_webhook_cache_ttl),
            },
            "anonymous": {"enabled": config.anonymous_auth},
        },
        "authorization": {
            "mode": config.authorization_mode,
            "webhook": {
                "cacheAuthorizedTTL": go_duration(config.authorization_webhook_cache_authorized_ttl),
                "cacheUnauthorizedTTL": go_duration(config.authorization_webhook_cache_unauthorized_ttl),
            },
        },
        "registerNode": True,
        "registerWithTaints": [msgspec.to_builtins(taint) for taint in config.register_with_taints],
        "nodeStatusUpdateFrequency": go_duration(config.node_status_update_frequency),
        "nodeStatusReportFrequency": go_duration(config.node_status_report_frequency),
        "nodeLeaseDurationSeconds": config.node_lease_duration_seconds,
        "clusterDomain": config.cluster_domain,
        "clusterDNS": list(config.cluster_dns),
        "resolvConf": config.resolv_conf,
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "maxPods": config.max_pods,
        "podPidsLimit": config.pod_pids_limit,
        "eventRecordQPS": round(config.event_qps),
        "eventBurst": config.event_burst,
        "registryPullQPS": config.registry_pull_qps,
        "registryBurst": config.registry_burst,
        "serializeImagePulls": config.max_parallel_image_pulls == 1,
        "maxParallelImagePulls": config.max_parallel_image_pulls,
        "imageMinimumGCAge": go_duration(config.image_minimum_gc_age),
        "imageMaximumGCAge": go_duration(config.image_maximum_gc_age),
        "imageGCHighThresholdPercent": config.image_gc_high_threshold_percent,
        "imageGCLowThresholdPercent": config.image_gc_low_threshold_percent,
        "podLogsDir": config.pod_logs_dir,
        "containerLogMaxSize": str(config.container_log_max_size),
        "containerLogMaxFiles": config.container_log_max_files,
        "systemReserved": {
            "cpu": f"{round(config.system_reserved_cpu * 1000)}m",
            "memory": str(config.system_reserved_memory),
        },
        "evictionHard": config.eviction_hard,
        "evictionPressureTransitionPeriod": go_duration(config.eviction_pressure_transition_period),
        "enableSystemLogHandler": config.enable_system_log_handler,
        "enableDebuggingHandlers": True,
        "logging": {"format": config.logging_format, "verbosity": verbosity(config.log_level)},
    }
    files = {
        "staticPodPath": config.static_pod_path,
        "tlsCertFile": config.tls_cert_file,
        "tlsPrivateKeyFile": config.tls_private_key_file,
    }
    evictions = {
        "evictionSoft": config.eviction_soft,
        "evictionSoftGracePeriod": config.eviction_soft_grace_period,
        "evictionMinimumReclaim": config.eviction_minimum_reclaim,
        "evictionMaxPodGracePeriod": config.eviction_max_pod_grace_period,
    }
    if config.tracing_endpoint:
        rate = config.tracing_sampling_rate_per_million
        found["tracing"] = {"endpoint": config.tracing_endpoint, "samplingRatePerMillion": rate}
    return found | {name: value for name, value in (files | evictions).items() if value}
