"""The judgements of the machine, for machines that nobody has."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from vkubelet.doctor.host import CAPABILITIES, Directory, HostFacts, judge
from vkubelet.doctor.verdict import Verdict, as_document, as_text, is_fit

ALL = sum(1 << bit for bit, _ in CAPABILITIES.values())
GOOD = HostFacts(
    kernel="6.1.0-18-amd64",
    uid=0,
    capabilities=ALL,
    cgroups={"cpu": 2, "memory": 2, "pids": 2},
    cgroups_missing="",
    launcher="vkubelet-launcher abc",
    launcher_trouble="",
    sandbox={"landlock-7": "", "seccomp": ""},
    toolbox="sha256:1",
    toolbox_trouble="",
    in_memory=True,
    files=1_000_000,
    max_pods=110,
    inotify_instances=128,
    inotify_watches=8192,
    unsynchronized=False,
    machine_id="0123",
    directories=[Directory("root_dir", "/var/lib/vkubelet", "/var/lib/vkubelet", writable=True)],
    pressure=[],
    agent="",
    port=10250,
    port_taken="",
    resolv_conf="/etc/resolv.conf",
    resolv_conf_trouble="",
)


def judged(**changes: Any) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in judge(dataclasses.replace(GOOD, **changes))}


def test_a_good_machine_has_nothing_to_say_but_ok() -> None:
    assert {verdict.status for verdict in judge(GOOD)} == {"ok"}
    assert is_fit(judge(GOOD))


@pytest.mark.parametrize(
    ("changes", "name", "status", "found"),
    [
        ({"kernel": "5.8.0"}, "kernel", "missing", "Linux 5.8.0"),
        ({"kernel": "5.9"}, "kernel", "ok", "Linux 5.9"),
        ({"kernel": "strange"}, "kernel", "missing", "Linux strange"),
        ({"launcher_trouble": "it does not exist"}, "launcher", "missing", "it does not exist"),
        ({"toolbox_trouble": "not what was built"}, "toolbox", "warning", "not what was built"),
        (
            {"uid": 1000, "capabilities": 0},
            "user",
            "warning",
            "user 1000 without CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SYS_PTRACE, CAP_SYS_ADMIN: "
            "the node cannot run containers as other users; nor end processes of other users; nor forward "
            "ports to containers of other users; nor mount a tmpfs for secrets, and storage drivers' volumes",
        ),
        ({"uid": 1000}, "user", "ok", "user 1000, with all capabilities that a node uses"),
        (
            {"cgroups": {"pids": 1}, "cgroups_missing": "no cgroup with cpu and memory (why)"},
            "cgroups",
            "warning",
            "no cgroup with cpu and memory (why); there is pids (v1)",
        ),
        ({}, "sandbox", "ok", "besides WebAssembly itself: landlock-7, seccomp"),
        ({"sandbox": {"seccomp": "Why"}}, "sandbox", "warning", "no seccomp: Why"),
        ({"sandbox": {"seccomp": "", "new-part": "Why"}}, "sandbox", "warning", "no new-part: Why"),
        (
            {"directories": [Directory("run_dir", "/run/v", "/run", writable=False)]},
            "run dir",
            "missing",
            "nothing can be written to /run",
        ),
        (
            {"directories": [Directory("run_dir", "/run/v", "/run", writable=True)]},
            "run dir",
            "ok",
            "/run/v can be made",
        ),
        (
            {"directories": [Directory("run_dir", "/f/v", "/f", writable=True, is_directory=False)]},
            "run dir",
            "missing",
            "/f is no directory",
        ),
        ({"in_memory": False}, "secrets", "ok", "in memory: the node mounts a tmpfs for them"),
        (
            {"in_memory": False, "capabilities": 0},
            "secrets",
            "warning",
            "files on a disk: the run directory is on no tmpfs, and none can be mounted",
        ),
        (
            {"pressure": ["nodefs.available (hard)", "available of /logs"]},
            "space",
            "warning",
            "less is left than eviction wants: nodefs.available (hard), available of /logs",
        ),
        ({"files": 1024}, "open files", "warning", "1024 open files at most, and 110 pods may take 1464"),
        ({"inotify_instances": 8}, "inotify", "warning", "8 instances, 8192 watches"),
        ({"unsynchronized": True}, "clock", "warning", "the kernel says that nobody keeps the clock"),
        ({"machine_id": ""}, "machine id", "warning", "/etc/machine-id is empty or missing"),
        ({"resolv_conf": ""}, "resolver", "ok", "none is configured for pods"),
        (
            {"resolv_conf_trouble": "No such file"},
            "resolver",
            "warning",
            "/etc/resolv.conf: No such file",
        ),
        (
            {"agent": "77"},
            "agent",
            "ok",
            "process 77 runs on this run directory; a second one would refuse to",
        ),
        ({"port_taken": "taken"}, "port", "missing", "taken"),
        ({"port_taken": "taken", "agent": "77"}, "port", "ok", "10250 is taken, as by the agent that runs"),
        ({"port": 0}, "port", "ok", "the node takes a free one"),
    ],
)
def test_a_machine_that_lacks_something(changes: dict[str, Any], name: str, status: str, found: str) -> None:
    verdicts = judged(**changes)
    assert (verdicts[name].status, verdicts[name].found) == (status, found)
    assert bool(verdicts[name].advice) == (status != "ok")
    assert is_fit(verdicts.values()) == (status != "missing")


def test_a_launcher_that_does_not_run_leaves_its_sandbox_unknown() -> None:
    assert "sandbox" not in judged(launcher_trouble="it does not exist", sandbox={})


def test_both_forms_say_all() -> None:
    verdicts = list(judge(dataclasses.replace(GOOD, kernel="4.19", machine_id="")))
    text = as_text(verdicts)
    assert text.startswith("missing  kernel        Linux 4.19\n")
    assert "\n                       -> update it to 5.9 or newer\n" in text
    document = as_document(verdicts)
    assert document["fit"] is False
    assert document["checks"][0] == {
        "name": "kernel",
        "status": "missing",
        "found": "Linux 4.19",
        "advice": "update it to 5.9 or newer",
    }
    assert "advice" not in document["checks"][1]
    assert len(document["checks"]) == len(verdicts)
