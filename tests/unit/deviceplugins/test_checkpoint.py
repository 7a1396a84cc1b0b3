"""What is kept of devices, and what becomes of a file that cannot be believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vkubelet.deviceplugins.checkpoint import Checkpoint, CheckpointFile
from vkubelet.deviceplugins.ledger import Allocation
from vkubelet.deviceplugins.messages import CDIDevice, ContainerAllocateResponse, DeviceSpec, Mount

FULL = Checkpoint(
    resources=["example.com/widget"],
    allocations=[
        Allocation(
            pod="u",
            container="c",
            resource="example.com/widget",
            devices=("d1", "d2"),
            response=ContainerAllocateResponse(
                envs={"A": "b"},
                mounts=[Mount(container_path="/a", host_path="/b", read_only=True)],
                devices=[DeviceSpec(container_path="/dev/a", host_path="/dev/b", permissions="rw")],
                annotations={"c": "d"},
                cdi_devices=[CDIDevice(name="example.com/widget=1")],
            ),
        )
    ],
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    CheckpointFile(tmp_path / "devices.json").write(FULL)
    assert CheckpointFile(tmp_path / "devices.json").read() == FULL
    assert [path.name for path in tmp_path.iterdir()] == ["devices.json"]


def test_where_there_is_no_file_there_is_nothing(tmp_path: Path) -> None:
    assert CheckpointFile(tmp_path / "devices.json").read() == Checkpoint()


def test_what_is_written_already_is_not_written_again(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "devices.json")
    file.write(FULL)
    before = (tmp_path / "devices.json").stat().st_ino
    file.write(FULL)
    assert (tmp_path / "devices.json").stat().st_ino == before
    file.write(Checkpoint())
    assert (tmp_path / "devices.json").stat().st_ino != before


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"allocations": [{"pod": "u"}]}', b'{"resources": "x"}', b"\xff"]
)
def test_a_file_that_cannot_be_read_is_set_aside(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "devices.json"
    path.write_bytes(data)
    file = CheckpointFile(path)
    assert file.read() == Checkpoint()
    assert (tmp_path / "devices.json.corrupt").read_bytes() == data
    file.write(FULL)
    assert file.read() == FULL
