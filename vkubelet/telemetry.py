"""What the agent counts about itself, under the kubelet's names, for `/metrics` and `/metrics/probes`.

It exists so that who counts needs one import and one call, and so that every name is in one place with the
kubelet's own meaning, labels and buckets (pkg/kubelet/metrics, client-go's restclient metrics). Nothing is
here that is not counted somewhere. It must not know who counts.
"""

from __future__ import annotations

from vkubelet.meters import Counter, Deadline, Family, Histogram

_ALPHA = "[ALPHA] "
_BETA = "[BETA] "
_HTTP_LABELS = ("method", "path", "server_type", "long_running")
_MINUTES = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_POD_START_BUCKETS = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, *(60 * minutes for minutes in _MINUTES))
_PULL_BUCKETS = (1, 5, 10, 20, 30, *(60 * minutes for minutes in _MINUTES))
_OPERATION_BUCKETS = tuple(round(0.005 * 2.5**power, 12) for power in range(14))
_STATUS_BUCKETS = (0.010, 0.050, 0.100, 0.500, 1, 5, 10, 20, 30, 45, 60)
_REST_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)

HTTP_REQUESTS = Counter(
    "kubelet_http_requests_total",
    _ALPHA + "Number of the http requests received since the server started",
    _HTTP_LABELS,
)
HTTP_DURATION = Histogram(
    "kubelet_http_requests_duration_seconds",
    _ALPHA + "Duration in seconds to serve http requests",
    _HTTP_LABELS,
)
POD_START_DURATION = Histogram(
    "kubelet_pod_start_duration_seconds",
    _ALPHA + "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
    buckets=_POD_START_BUCKETS,
)
POD_WORKER_DURATION = Histogram(
    "kubelet_pod_worker_duration_seconds",
    _ALPHA
    + "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
    ("operation_type",),
)
POD_STATUS_SYNC_DURATION = Histogram(
    "kubelet_pod_status_sync_duration_seconds",
    _ALPHA
    + "Duration in seconds to sync a pod status update. Measures time from detection of a change to pod "
    "status until the API is successfully updated for that pod, even if multiple intevening changes to pod "
    "status occur.",
    buckets=_STATUS_BUCKETS,
)
RUNTIME_OPERATIONS = Counter(
    "kubelet_runtime_operations_total",
    _ALPHA + "Cumulative number of runtime operations by operation type.",
    ("operation_type",),
)
RUNTIME_OPERATION_ERRORS = Counter(
    "kubelet_runtime_operations_errors_total",
    _ALPHA + "Cumulative number of runtime operation errors by operation type.",
    ("operation_type",),
)
RUNTIME_OPERATION_DURATION = Histogram(
    "kubelet_runtime_operations_duration_seconds",
    _ALPHA + "Duration in seconds of runtime operations. Broken down by operation type.",
    ("operation_type",),
    _OPERATION_BUCKETS,
)
STARTED_CONTAINERS = Counter(
    "kubelet_started_containers_total",
    _ALPHA + "Cumulative number of containers started",
    ("container_type",),
)
STARTED_CONTAINER_ERRORS = Counter(
    "kubelet_started_containers_errors_total",
    _ALPHA + "Cumulative number of errors when starting containers",
    ("container_type", "code"),
)
TERMINATED_CONTAINERS = Counter(
    "kubelet_terminated_containers_total",
    _ALPHA + "Cumulative number of container terminations.",
    ("container_type", "exit_code", "reason"),
)
ADMISSION_REJECTIONS = Counter(
    "kubelet_admission_rejections_total",
    _ALPHA + "Cumulative number pod admission rejections by the Kubelet.",
    ("reason",),
)
IMAGE_PULL_DURATION = Histogram(
    "kubelet_image_pull_duration_seconds",
    _ALPHA + "Duration in seconds to pull an image.",
    ("image_size_in_bytes",),
    _PULL_BUCKETS,
)
IMAGES_COLLECTED = Counter(
    "kubelet_image_garbage_collected_total",
    _ALPHA
    + "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
    ("reason",),
)
REST_REQUESTS = Counter(
    "rest_client_requests_total",
    _ALPHA + "Number of HTTP requests, partitioned by status code, method, and host.",
    ("code", "host", "method"),
)
REST_DURATION = Histogram(
    "rest_client_request_duration_seconds",
    _ALPHA + "Request latency in seconds. Broken down by verb, and host.",
    ("host", "verb"),
    _REST_BUCKETS,
)

CLIENT_CERTIFICATE_TTL = Deadline(
    "kubelet_certificate_manager_client_ttl_seconds",
    _ALPHA + "Gauge of the TTL (time-to-live) of the Kubelet's client certificate. The value is in seconds "
    "until certificate expiry (negative if already expired).",
)
SERVING_CERTIFICATE_TTL = Deadline(
    "kubelet_certificate_manager_server_ttl_seconds",
    _ALPHA + "Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The value is in "
    "seconds until certificate expiry (negative if already expired).",
)

PROBE_RESULTS = Counter(
    "prober_probe_total",
    _BETA + "Cumulative number of a liveness, readiness or startup probe for a container by result.",
    ("probe_type", "result", "container", "pod", "namespace", "pod_uid"),
)
PROBE_DURATION = Histogram(
    "prober_probe_duration_seconds",
    _ALPHA + "Duration in seconds for a probe response.",
    ("probe_type", "container", "pod", "namespace"),
)

EVICTIONS = Counter(
    "kubelet_evictions",
    _ALPHA + "Cumulative number of pod evictions by eviction signal",
    ("eviction_signal",),
)

PREEMPTIONS = Counter(
    "kubelet_preemptions",
    _ALPHA + "Cumulative number of pod preemptions by preemption resource",
    ("preemption_signal",),
)

DEVICE_PLUGIN_REGISTRATIONS = Counter(
    "kubelet_device_plugin_registration_total",
    _ALPHA + "Cumulative number of device plugin registrations. Broken down by resource name.",
    ("resource_name",),
)
DEVICE_ALLOCATION_DURATION = Histogram(
    "kubelet_device_plugin_alloc_duration_seconds",
    _ALPHA + "Duration in seconds to serve a device plugin Allocation request. Broken down by resource name.",
    ("resource_name",),
)

TRACE_SPANS = Counter(
    "vkubelet_trace_spans_total",
    _ALPHA + "Number of spans of traces by what became of them: exported, rejected or dropped.",
    ("result",),
)

_OF_PROBES = (PROBE_RESULTS, PROBE_DURATION)
_ALL = tuple(
    value
    for value in globals().values()
    if isinstance(value, Counter | Deadline | Histogram) and value not in _OF_PROBES
)

_MEGABYTE, _GIGABYTE = 1 << 20, 1 << 30
_IMAGE_SIZES = (
    (10 * _MEGABYTE, "0-10MB"),
    (100 * _MEGABYTE, "10MB-100MB"),
    (500 * _MEGABYTE, "100MB-500MB"),
    (_GIGABYTE, "500MB-1GB"),
    (5 * _GIGABYTE, "1GB-5GB"),
    (10 * _GIGABYTE, "5GB-10GB"),
    (20 * _GIGABYTE, "10GB-20GB"),
    (30 * _GIGABYTE, "20GB-30GB"),
    (40 * _GIGABYTE, "30GB-40GB"),
    (60 * _GIGABYTE, "40GB-60GB"),
    (100 * _GIGABYTE, "60GB-100GB"),
)


def image_size_bucket(size: int) -> str:
    """The label value of IMAGE_PULL_DURATION for an image of `size` bytes."""
    return next((label for bound, label in _IMAGE_SIZES if size <= bound), "GT100GB")


def families() -> list[Family]:
    """All that was counted, ready to be shown."""
    return [meter.family() for meter in _ALL]


def probe_families() -> list[Family]:
    """What was counted of probes, which a kubelet shows apart."""
    return [meter.family() for meter in _OF_PROBES]
