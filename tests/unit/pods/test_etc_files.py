"""The files of a guest's /etc: their content, and what a guest may do to them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from providers.base import FileMount, Preopen
from vkubelet.api.objects import HostAlias, ObjectMeta, ObjectReference, Pod, PodDNSConfig, PodSpec
from vkubelet.config import Config
from vkubelet.pods.dns import ClusterDNS
from vkubelet.pods.etc_files import EtcFiles, HostFiles, directory, hosts, prepare, visible
from vkubelet.pods.hostname import Hostname

NAME = Hostname("web", "", "web")
LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def pod(**spec: Any) -> Pod:
    return Pod(metadata=ObjectMeta(name="web", namespace="shop", uid="u"), spec=PodSpec(**spec))


def test_a_hosts_file_names_the_pod_and_its_aliases() -> None:
    aliases = [HostAlias(ip="1.2.3.4", hostnames=["a.example", "b.example"]), HostAlias(ip="::9")]
    assert hosts(pod(), NAME, "10.0.0.9", "") == (f"# Kubernetes-managed hosts file.\n{LOCAL}10.0.0.9\tweb\n")
    full = Hostname("web", "x.shop.svc.cluster.local", "web")
    assert hosts(pod(host_aliases=aliases), full, "10.0.0.9", "") == (
        f"# Kubernetes-managed hosts file.\n{LOCAL}10.0.0.9\tweb.x.shop.svc.cluster.local\tweb\n"
        "\n# Entries added by HostAliases.\n1.2.3.4\ta.example\tb.example\n::9\t\n"
    )


def test_with_the_hosts_network_the_machines_names_are_the_pods() -> None:
    aliases = [HostAlias(ip="1.2.3.4", hostnames=["a.example"])]
    assert hosts(pod(host_network=True, host_aliases=aliases), NAME, "10.0.0.9", "127.0.0.1 me\n") == (
        "# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n"
        "\n# Entries added by HostAliases.\n1.2.3.4\ta.example\n"
    )


class Told:
    """The reasons of the events that were recorded."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def event(self, reference: ObjectReference, kind: str, reason: str, message: str) -> None:
        self.reasons.append(reason)


class Machine:
    """A node with host files of its own."""

    def __init__(self, directory: Path) -> None:
        self.run_dir = directory / "run"
        self.resolver = directory / "resolv.conf"
        self.resolver.write_text("nameserver 10.0.0.2\n")
        self.told = Told()
        self.config = Config(run_dir=str(self.run_dir), resolv_conf=str(self.resolver), node_name="n")
        self.files = EtcFiles(self.config, self.told)

    def made(self, of: Pod) -> dict[str, str]:
        """Make the files; their content by name."""
        self.files.make(of, NAME, "10.0.0.9")
        where = directory(self.run_dir, of.metadata.uid)
        return {path.name: path.read_text() for path in where.iterdir()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_files_are_what_they_should_be_at_each_start(machine: Machine) -> None:
    made = machine.made(pod(dns_policy="Default"))
    assert made.keys() == {"hosts", "hostname", "resolv.conf"}
    assert made["hostname"] == "web\n"
    assert made["resolv.conf"] == "nameserver 10.0.0.2\n"
    where = directory(machine.run_dir, "u")
    assert stat.S_IMODE((where / "hosts").stat().st_mode) == 0o644
    before = (where / "hosts").stat().st_ino
    machine.resolver.write_text("nameserver 10.0.0.3\n")
    again = machine.made(pod(dns_policy="Default"))
    assert again == made | {"resolv.conf": "nameserver 10.0.0.3\n"}
    assert (where / "hosts").stat().st_ino == before  # what has not changed stays the same file
    machine.files.forget(pod())
    machine.files.forget(pod())
    assert not where.exists()


def test_what_a_guest_made_of_a_file_is_not_given_to_the_next(machine: Machine) -> None:
    made = machine.made(pod())
    where = directory(machine.run_dir, "u")
    guest = where.parent / "guest"
    guest.hardlink_to(where / "hosts")
    os.truncate(guest, 1 << 40)  # nobody may read that much
    assert machine.made(pod()) == made
    assert guest.stat().st_size == 1 << 40
    guest.unlink()
    guest.hardlink_to(where / "hosts")
    guest.write_text(made["hosts"].upper())
    assert machine.made(pod()) == made


def test_what_was_cut_off_with_an_earlier_agent_is_made_whole(tmp_path: Path) -> None:
    where = tmp_path / "etc"

    def make() -> dict[str, str]:
        prepare(where, pod(), NAME, "10.0.0.9", HostFiles(resolver=None), ClusterDNS((), ""))
        return {path.name: path.read_text() for path in where.iterdir()}

    whole = make()
    assert whole["resolv.conf"] == "search .\nnameserver 127.0.0.1\n"
    (where / "hosts").write_text("127.0.0.1")
    (where / "resolv.conf").unlink()
    assert make() == whole


def test_a_machine_without_a_resolver_configuration_gives_an_empty_one(machine: Machine) -> None:
    machine.resolver.unlink()
    assert machine.made(pod(dns_policy="Default"))["resolv.conf"] == ""


def test_what_a_pod_does_not_get_is_told(machine: Machine) -> None:
    config = PodDNSConfig(nameservers=["1.1.1.1", "2.2.2.2", "3.3.3.3"])
    for _ in range(2):
        machine.made(pod(dns_policy="ClusterFirst", dns_config=config))
    assert sorted(machine.told.reasons) == ["DNSConfigForming"] * 2 + ["MissingClusterDNS"]


def names(preopens: tuple[str, ...] = (), files: tuple[str, ...] = ()) -> list[str]:
    found = visible(
        Path("/etc-of-pod"),
        [Preopen(Path("/v"), guest) for guest in preopens],
        [FileMount(Path("/f"), guest) for guest in files],
    )
    return [file.guest for file in found]


def test_what_a_container_mounts_in_their_place_it_sees() -> None:
    everything = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
    assert names() == everything
    assert names(("/etc/config", "/var")) == everything
    assert names(("/etc/",)) == []
    assert names((), ("/etc",)) == []
    assert names(("/etc/hosts",), ("etc/resolv.conf",)) == ["/etc/hostname"]
