"""Whether a container that has ended is to run again; pure.

It exists because a container's own policy and rules, its pod's policy and what kind of container it is all
have a say, and both `plan` and the pod's phase must come to the same answer. It must not know when.
"""

from __future__ import annotations

from vkubelet.api.containers import Container, ContainerRestartRule
from vkubelet.api.objects import Pod
from vkubelet.pods.observed import ContainerView


def restarts_after(pod: Pod, container: Container, code: int) -> bool:
    """Whether an end with exit code `code` is followed by a restart (podutil.ContainerShouldRestart).

    Rules count only beside a restart policy of the container's own (KEP-5307). An init container that
    succeeded is done, unless it is a sidecar.
    """
    if _is_init(pod, container) and not container.is_sidecar and code == 0:
        return False
    if container.restart_policy and any(matches(rule, code) for rule in container.restart_policy_rules or ()):
        return True
    policy = container.restart_policy or pod.spec.restart_policy
    return policy != "Never" if code != 0 else _again_when_done(pod, container, policy)


def restarts_all(container: Container, code: int) -> bool:
    """Whether this exit code has all of the pod's containers start again: the first rule that fits says."""
    rules = (rule for rule in container.restart_policy_rules or () if matches(rule, code))
    first = next(rules, None)
    return first is not None and first.action == "RestartAllContainers"


def restarts_when_killed(pod: Pod, container: Container) -> bool:
    """Whether the node restarts a container that it ends itself, for a probe: rules do not count."""
    return container.is_sidecar or (container.restart_policy or pod.spec.restart_policy) != "Never"


def matches(rule: ContainerRestartRule, code: int) -> bool:
    """Whether a restart rule speaks of this exit code."""
    if rule.exit_codes is None:
        return False
    found = code in (rule.exit_codes.values or ())
    return found if rule.exit_codes.operator == "In" else not found


def should_restart(pod: Pod, container: Container, view: ContainerView) -> bool:
    """Whether the ended container of this view is wanted again. Ephemeral containers never are."""
    if view.latest is None or view.latest.exit is None or _is_ephemeral(pod, container):
        return False
    return view.restart or view.latest.reset or restarts_after(pod, container, view.latest.exit.code)


def _again_when_done(pod: Pod, container: Container, policy: str) -> bool:
    return policy == "Always" and (container.is_sidecar or not _is_init(pod, container))


def _is_init(pod: Pod, container: Container) -> bool:
    return any(item.name == container.name for item in pod.spec.init_containers or ())


def _is_ephemeral(pod: Pod, container: Container) -> bool:
    return any(item.name == container.name for item in pod.spec.ephemeral_containers or ())
