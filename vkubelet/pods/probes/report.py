"""What people are told of probes: events, and counters for `/metrics/probes`.

It exists to hold the kubelet's texts and labels (pkg/kubelet/prober). It must not know when probes are made.
"""

from __future__ import annotations

from vkubelet import telemetry
from vkubelet.api.containers import Container, Probe
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod, pod_reference
from vkubelet.pods.container_reference import container_reference
from vkubelet.pods.probes.outcome import Outcome, ProbeError, Result
from vkubelet.pods.probes.state import ProbeKind

_RESULTS = {Result.SUCCESS: "successful", Result.WARNING: "successful", Result.FAILURE: "failed"}


class Report:
    """Tells of the probes of a node's pods."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._told: set[str] = set()
        self._counted: dict[str, set[tuple[ProbeKind, str, str, str]]] = {}

    def outcome(
        self, pod: Pod, container: Container, kind: ProbeKind, outcome: Outcome, seconds: float
    ) -> None:
        """An attempt that counts took `seconds`."""
        meta = pod.metadata
        labels = (kind.title, container.name, meta.name, meta.namespace)
        self._counted.setdefault(meta.uid, set()).add((kind, container.name, meta.name, meta.namespace))
        result = _RESULTS[outcome.result]
        telemetry.PROBE_RESULTS.inc(kind.title, result, container.name, meta.name, meta.namespace, meta.uid)
        if outcome.result is not Result.FAILURE:
            telemetry.PROBE_DURATION.observe(seconds, *labels)
        if outcome.result is Result.WARNING:
            self._event(pod, container, "ProbeWarning", f"{kind.title} probe warning: {outcome.message}")
        elif outcome.result is Result.FAILURE:
            self._event(pod, container, "Unhealthy", f"{kind.title} probe failed: {outcome.message}")

    def error(self, pod: Pod, container: Container, kind: ProbeKind, error: ProbeError) -> None:
        """An attempt that counts for nothing."""
        state = error.result.value
        self._event(
            pod, container, "Unhealthy", f"{kind.title} probe errored and resulted in {state} state: {error}"
        )

    def unreachable(self, pod: Pod, container: Container, kind: ProbeKind) -> None:
        """The probe asks for a port, and the pod's guests have no network; told once for each pod."""
        if pod.metadata.uid in self._told:
            return
        self._told.add(pod.metadata.uid)
        message = (
            f"the {kind.value}Probe of container {container.name} finds nobody: a wasm guest listens on a "
            "port only with spec.hostNetwork: true, and as a component; set that, or probe it by exec"
        )
        self._recorder.event(pod_reference(pod), "Warning", "ProbeWithoutNetwork", message)

    def forget(self, uid: str) -> None:
        """The pod is gone, and its counters with it."""
        self._told.discard(uid)
        for kind, container, name, namespace in self._counted.pop(uid, ()):
            telemetry.PROBE_DURATION.remove(kind.title, container, name, namespace)
            for result in sorted(set(_RESULTS.values())):
                telemetry.PROBE_RESULTS.remove(kind.title, result, container, name, namespace, uid)

    def _event(self, pod: Pod, container: Container, reason: str, message: str) -> None:
        self._recorder.event(container_reference(pod, container.name), "Warning", reason, message)


def needs_network(probe: Probe) -> bool:
    """Whether what is probed is a port of the guest itself."""
    if probe.http_get is not None:
        return not probe.http_get.host
    if probe.tcp_socket is not None:
        return not probe.tcp_socket.host
    return probe.grpc is not None
