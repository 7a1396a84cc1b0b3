"""What a guest gets of a plugin's answers, and what no guest can be given."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from providers.base import FileMount, Preopen
from vkubelet.deviceplugins.equipment import equipment
from vkubelet.deviceplugins.ledger import Allocation
from vkubelet.deviceplugins.messages import CDIDevice, ContainerAllocateResponse, DeviceSpec, Mount
from vkubelet.pods.devices import DeviceError, Equipment
from vkubelet.pods.environment import Environment
from vkubelet.pods.volumes.mounts import Mounts


def allocation(resource: str = "example.com/a", **answer: object) -> Allocation:
    response = ContainerAllocateResponse(**answer)  # type: ignore[arg-type]
    return Allocation(pod="u", container="c", resource=resource, devices=("d",), response=response)


def test_variables_directories_and_files_reach_the_guest(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = equipment(
        [
            allocation(
                envs={"A": "1"},
                mounts=[
                    Mount(container_path="/lib/x", host_path=str(tmp_path), read_only=True),
                    Mount(container_path="/etc/x", host_path=str(tmp_path / "file")),
                ],
                devices=[
                    DeviceSpec(container_path="/dev/x", host_path=str(tmp_path / "file"), permissions="r"),
                    DeviceSpec(container_path="/dev/y", host_path=str(tmp_path), permissions="rw"),
                ],
                annotations={"ignored": "yes"},
            )
        ]
    )
    file = tmp_path / "file"
    assert found.env == {"A": "1"}
    assert found.preopens == (Preopen(tmp_path, "/dev/y"), Preopen(tmp_path, "/lib/x", read_only=True))
    assert found.files == (FileMount(file, "/dev/x", read_only=True), FileMount(file, "/etc/x"))


def test_of_two_answers_about_one_thing_the_first_counts(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = allocation(envs={"A": "1"}, mounts=[Mount(container_path="/x", host_path=str(tmp_path))])
    two = allocation(
        "example.com/b",
        envs={"A": "2", "B": "3"},
        mounts=[Mount(container_path="/x", host_path=str(tmp_path / "other"))],
    )
    found = equipment([two, one])
    assert found.env == {"A": "1", "B": "3"}
    assert found.preopens == (Preopen(tmp_path, "/x"),)


def test_what_no_guest_can_be_given_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket"))
    listening.close()
    for host, text in (
        ("/dev/null", "is a character device: a wasm guest can be given directories and regular files only"),
        (str(tmp_path / "pipe"), "is a named pipe"),
        (str(tmp_path / "socket"), "is a socket"),
        (str(tmp_path / "missing"), "No such file or directory"),
        ("a\0b", "null byte"),
    ):
        device = DeviceSpec(container_path="/dev/x", host_path=host, permissions="rw")
        with pytest.raises(DeviceError, match=text):
            equipment([allocation(devices=[device])])


def test_cdi_devices_are_refused_by_name() -> None:
    with pytest.raises(DeviceError, match=r'example\.com/a: CDI device "v\.com/gpu=1": a CDI device edits'):
        equipment([allocation(cdi_devices=[CDIDevice(name="v.com/gpu=1")])])


@pytest.mark.parametrize("name", ["", "A=B", "A\0"])
def test_names_that_are_no_variable_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="is no environment variable"):
        equipment([allocation(envs={name: "x"})])


def test_the_pods_own_variables_and_mounts_come_first(tmp_path: Path) -> None:
    gained = Equipment(
        {"OWN": "device", "IMAGE": "device", "NEW": "device"},
        (Preopen(tmp_path, "/data/"), Preopen(tmp_path, "/lib")),
        (FileMount(tmp_path, "/etc/x"),),
    )
    env = gained.below(Environment((("IMAGE", "image"), ("OWN", "own")), {"OWN": "own"}))
    assert dict(env.variables) == {"IMAGE": "device", "OWN": "own", "NEW": "device"}
    assert env.declared == {"OWN": "own", "IMAGE": "device", "NEW": "device"}
    own = Preopen(tmp_path / "own", "/data")
    found = gained.beneath(Mounts((own,), (FileMount(tmp_path / "own", "/etc/x"),), (7,)))
    assert found.preopens == (own, Preopen(tmp_path, "/lib"))
    assert found.files == (FileMount(tmp_path / "own", "/etc/x"),)
    assert found.groups == (7,)
    nothing = Environment((("A", "b"),), {})
    assert Equipment().below(nothing) is nothing
