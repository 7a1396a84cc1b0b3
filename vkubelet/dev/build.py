"""The cluster's one Go program: what it is built from, and with which flags."""

from __future__ import annotations

from pathlib import Path

from vkubelet.dev.goprogram import Program, built, required
from vkubelet.dev.layout import deployed
from vkubelet.dev.report import Report
from vkubelet.dev.toolchain import toolchain

KEPT = 3
"""Binaries of 140 MB kept in the cache: enough to go back and forth between branches."""


def cluster_binary(cache: Path, report: Report) -> Path:
    """The cluster's program, built if its sources or the toolchain changed. Raises DevError."""
    sources = deployed("devcluster")
    module = (sources / "go.mod").read_text()
    program = Program(
        name="devcluster",
        title="the cluster",
        announcement="Building the cluster from Kubernetes' sources: minutes the first time, then cached.",
        sources=sources,
        flags=("-trimpath", "-buildvcs=false", f"-ldflags={linker_flags(module)}"),
        kept=KEPT,
    )
    return built(program, toolchain(cache, required(module, r"^go (\S+)$"), report), cache, report)


def linker_flags(module: str) -> str:
    """Strip, and stamp the version of Kubernetes that go.mod names, as Kubernetes' own build does."""
    version = required(module, r"^\s+k8s\.io/kubernetes (v\d+\.\d+\S*)$")
    major, minor = version.removeprefix("v").split(".")[:2]
    package = "k8s.io/component-base/version"
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    values = [f"-X {package}.{name}={value}" for name, value in stamps.items()]
    return " ".join(["-s -w", *values, f"-X k8s.io/client-go/pkg/version.gitVersion={version}"])
