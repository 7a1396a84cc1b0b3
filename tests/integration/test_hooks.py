"""Lifecycle hooks on the real cluster."""

from __future__ import annotations

import json
import re

import pytest
from namespaces import Namespace

pytestmark = pytest.mark.integration


def test_a_post_start_hook_runs_in_the_container(space: Namespace, actor: str) -> None:
    hook = {"exec": {"command": ["actor", "write", "/hooked=yes"]}}
    args = ("await", "/hooked", "print", "was hooked", "sleep", "1000")
    space.pod("hooked", actor, *args, container={"lifecycle": {"postStart": hook}})
    space.wait("pod/hooked", "condition=Ready")
    assert "was hooked" in space.kubectl("logs", "hooked")


def test_a_post_start_hook_that_fails_ends_its_container(space: Namespace, actor: str) -> None:
    hook = {"exec": {"command": ["actor", "exit", "3"]}}
    space.pod("unhooked", actor, "sleep", "1000", container={"lifecycle": {"postStart": hook}})
    reason = "{.status.containerStatuses[0].state.waiting.reason}"
    shown = space.kubectl(
        "wait",
        "pod/unhooked",
        f"--for=jsonpath={reason}=PostStartHookError",
        "--timeout=60s",
        "--output=json",
    )
    state = json.loads(shown)["status"]["containerStatuses"][0]["state"]["waiting"]
    assert re.fullmatch(
        r'Exec lifecycle hook \(\[actor exit 3\]\) for Container "main" in Pod "unhooked_.*" failed'
        r" - error: command 'actor exit 3' exited with 3: .*, message: .*",
        state["message"],
    )
    assert space.wait_event("unhooked", "FailedPostStartHook") == "PostStartHook failed"
    assert space.wait_event("unhooked", "Killing") == "FailedPostStartHook"
    space.wait("pod/unhooked", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    space.wait_reason("unhooked", "CrashLoopBackOff")
    assert space.status("unhooked")["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 137


def test_a_pre_stop_hook_has_its_time_before_the_container_ends(space: Namespace, actor: str) -> None:
    hook = {"exec": {"command": ["actor", "write", "/last=words"]}}
    args = ("await", "/last", "print", "heard the last words", "sleep", "1000")
    space.pod(
        "stopping",
        actor,
        *args,
        container={"lifecycle": {"preStop": hook}},
        terminationGracePeriodSeconds=20,
    )
    space.wait("pod/stopping", "condition=Ready")
    following = space.kubectl("get", "pod", "stopping", "--output=name")
    assert following.strip() == "pod/stopping"
    space.kubectl("delete", "pod", "stopping", "--wait=false")
    space.wait("pod/stopping", "delete")


def test_a_pre_stop_hook_that_fails_is_told_of_and_holds_nothing_up(space: Namespace, actor: str) -> None:
    hook = {"httpGet": {"port": 1, "path": "/bye"}}
    space.pod("rude", actor, "sleep", "1000", container={"lifecycle": {"preStop": hook}})
    space.wait("pod/rude", "condition=Ready")
    space.kubectl("delete", "pod", "rude", "--wait=false")
    assert space.wait_event("rude", "FailedPreStopHook") == "PreStopHook failed"
    space.wait("pod/rude", "delete")


def test_a_sleep_is_bounded_by_the_grace_period(space: Namespace, actor: str) -> None:
    space.pod(
        "sleepy",
        actor,
        "sleep",
        "1000",
        container={"lifecycle": {"preStop": {"sleep": {"seconds": 3}}}},
        terminationGracePeriodSeconds=5,
    )
    space.wait("pod/sleepy", "condition=Ready")
    space.kubectl("delete", "pod", "sleepy", "--wait=false")
    space.wait("pod/sleepy", "delete", timeout=30)
