"""The encoding of messages: what the specification of protocol buffers says, byte for byte."""

from __future__ import annotations

import contextlib
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.rpc.messages import DecodeError, Message, decode, encode


class Inner(Message):
    number: Annotated[int, 1] = 0


class Everything(Message):
    text: Annotated[str, 1] = ""
    data: Annotated[bytes, 2] = b""
    flag: Annotated[bool, 3] = False
    number: Annotated[int, 4] = 0
    inner: Annotated[Inner | None, 5] = None
    texts: Annotated[list[str], 6] = msgspec.field(default_factory=list)
    inners: Annotated[list[Inner], 7] = msgspec.field(default_factory=list)
    pairs: Annotated[dict[str, str], 8] = msgspec.field(default_factory=dict)
    named: Annotated[dict[str, Inner], 16] = msgspec.field(default_factory=dict)


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (Everything(), ""),
        (Everything(text="abc"), "0a 03 61 62 63"),
        (Everything(flag=True), "18 01"),
        (Everything(number=150), "20 96 01"),
        (Everything(number=-1), "20 ff ff ff ff ff ff ff ff ff 01"),
        (Everything(inner=Inner()), "2a 00"),
        (Everything(inner=Inner(number=1)), "2a 02 08 01"),
        (Everything(texts=["", "x"]), "32 00 32 01 78"),
        (Everything(inners=[Inner(), Inner(number=2)]), "3a 00 3a 02 08 02"),
        (Everything(pairs={"k": "v"}), "42 06 0a 01 6b 12 01 76"),
        (Everything(named={"k": Inner(number=1)}), "82 01 07 0a 01 6b 12 02 08 01"),
    ],
)
def test_messages_are_the_bytes_that_the_specification_says(message: Everything, data: str) -> None:
    assert encode(message) == bytes.fromhex(data)
    assert decode(bytes.fromhex(data), Everything) == message


def test_an_entry_without_key_or_value_has_their_zeros() -> None:
    assert decode(bytes.fromhex("42 00"), Everything).pairs == {"": ""}
    assert decode(bytes.fromhex("82 01 00"), Everything).named == {"": Inner()}


def test_fields_that_are_not_known_are_passed_over() -> None:
    unknown = "98 06 05" + "91 06" + "00" * 8 + "9a 06 02 00 00" + "9d 06" + "00" * 4
    assert decode(bytes.fromhex(unknown + "0a 01 61"), Everything) == Everything(text="a")


@pytest.mark.parametrize(
    "data",
    ["0a 05 61", "0a", "20", "20 ff", "20" + "ff" * 11, "0b", "0d 00", "0a 01 ff", "08 01", "22 01 00"],
)
def test_what_is_no_such_message_is_told(data: str) -> None:
    with pytest.raises(DecodeError):
        decode(bytes.fromhex(data), Everything)


inners = st.builds(Inner, number=st.integers(-(1 << 63), (1 << 63) - 1))


@given(
    st.builds(
        Everything,
        text=st.text(),
        data=st.binary(),
        flag=st.booleans(),
        number=st.integers(-(1 << 63), (1 << 63) - 1),
        inner=st.none() | inners,
        texts=st.lists(st.text()),
        inners=st.lists(inners),
        pairs=st.dictionaries(st.text(), st.text()),
        named=st.dictionaries(st.text(), inners),
    )
)
def test_what_is_written_is_read(message: Everything) -> None:
    assert decode(encode(message), Everything) == message


@given(st.binary())
def test_no_bytes_do_worse_than_be_refused(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(data, Everything)
