"""The protocol's core: bytes of the draft by tables, round trips and rubbish by Hypothesis."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.server.streams.spdy import frames
from vkubelet.server.streams.spdy.decoder import MAX_CONTROL, FrameDecoder
from vkubelet.server.streams.spdy.error import SpdyError
from vkubelet.server.streams.spdy.frames import (
    Data,
    GoAway,
    HeadersFrame,
    Ping,
    RstStream,
    Setting,
    Settings,
    SynReply,
    SynStream,
    WindowUpdate,
)
from vkubelet.server.streams.spdy.headers import (
    DICTIONARY,
    MAX_BLOCK,
    HeaderCompressor,
    HeaderDecompressor,
)
from vkubelet.server.streams.spdy.session import Session

ids = st.integers(1, frames.MAX_STREAM_ID)
words = st.integers(0, 2**32 - 1)
latin = st.text(st.characters(max_codepoint=255, exclude_characters="\0"), max_size=20)
names = latin.map(str.lower).filter(lambda name: name and name == name.lower() and max(name) < "\u0100")
headers = st.dictionaries(names, st.lists(latin, min_size=1, max_size=3).map(tuple), max_size=6)
plain_frames = st.one_of(
    st.builds(RstStream, ids, words),
    st.builds(
        Settings,
        st.lists(st.builds(Setting, st.integers(0, 2**24 - 1), words, st.integers(0, 255)), max_size=5).map(
            tuple
        ),
        st.booleans(),
    ),
    st.builds(Ping, words),
    st.builds(GoAway, st.integers(0, frames.MAX_STREAM_ID), words),
    st.builds(WindowUpdate, st.integers(0, frames.MAX_STREAM_ID), st.integers(0, frames.MAX_WINDOW)),
)
header_frames = st.one_of(
    st.builds(
        SynStream,
        ids,
        headers,
        st.booleans(),
        st.booleans(),
        st.integers(0, frames.MAX_STREAM_ID),
        st.integers(0, 7),
        st.integers(0, 255),
    ),
    st.builds(SynReply, ids, headers, st.booleans()),
    st.builds(HeadersFrame, ids, headers, st.booleans()),
)
data_frames = st.builds(Data, ids, st.binary(max_size=300).map(memoryview), st.booleans())


class Encoder:
    """Frames in the order in which one side sends them."""

    def __init__(self) -> None:
        self._compressor = HeaderCompressor()

    def __call__(self, frame: frames.Frame) -> bytes:
        match frame:
            case Data(stream_id, data, fin):
                return frames.data_header(stream_id, len(data), fin=fin) + data
            case SynStream() | SynReply() | HeadersFrame():
                return frames.encode_with_headers(frame, self._compressor.compress(frame.headers))
            case _:
                return frames.encode(frame)


def joined(decoded: list[frames.Frame]) -> list[frames.Frame]:
    """Pieces of one DATA frame as one; there is none between two frames of the same stream without `fin`."""
    whole: list[frames.Frame] = []
    for frame in decoded:
        last = whole[-1] if whole else None
        match last, frame:
            case Data(before, start, False), Data(stream_id, rest, fin) if before == stream_id:
                whole[-1] = Data(stream_id, memoryview(bytes(start) + rest), fin)
                continue
        whole.append(frame)
    return whole


@given(st.lists(st.one_of(plain_frames, header_frames, data_frames), max_size=8), st.data())
def test_what_is_encoded_is_decoded_however_it_is_cut(sent, data):
    encode = Encoder()
    stream = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    decoder = FrameDecoder()
    decoded: list[frames.Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        decoded += decoder.decode(stream[start:end])
    assert joined(decoded) == joined(sent)


@given(st.binary(max_size=400), st.lists(st.binary(max_size=40), max_size=10))
def test_rubbish_raises_nothing_but_its_own_error(start, more):
    session = Session()
    try:
        for data in (start, *more):
            session.receive(data)
            session.take_output()
    except SpdyError:
        pass


def control(kind: int, body: bytes, flags: int = 0, version: int = 3, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return struct.pack(">II", 0x8000_0000 | version << 16 | kind, flags << 24 | size) + body


def block(plain: bytes) -> bytes:
    compressor = zlib.compressobj(zdict=DICTIONARY)
    return compressor.compress(plain) + compressor.flush(zlib.Z_SYNC_FLUSH)


def text(*items: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(item)) + item for item in items)


ONE = struct.pack(">I", 1)


@pytest.mark.parametrize(
    ("data", "frame"),
    [
        (b"\x80\x03\x00\x03\x00\x00\x00\x08\x00\x00\x00\x05\x00\x00\x00\x01", RstStream(5, 1)),
        (b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x02", Ping(2)),
        (b"\x80\x03\x00\x07\x00\x00\x00\x08\x00\x00\x00\x07\x00\x00\x00\x02", GoAway(7, 2)),
        (b"\x80\x03\x00\x09\x00\x00\x00\x08\x00\x00\x00\x01\x00\x01\x00\x00", WindowUpdate(1, 65536)),
        (
            b"\x80\x03\x00\x04\x01\x00\x00\x0c\x00\x00\x00\x01\x01\x00\x00\x07\x00\x00\x10\x00",
            Settings((Setting(7, 4096, 1),), clear=True),
        ),
        (b"\x00\x00\x00\x03\x01\x00\x00\x02hi", Data(3, memoryview(b"hi"), True)),
        (b"\x00\x00\x00\x03\x01\x00\x00\x00", Data(3, memoryview(b""), True)),
        (
            control(1, b"\0\0\0\1\0\0\0\2\xa0\7" + block(ONE + text(b"a", b"b\0c")), flags=2),
            SynStream(1, {"a": ("b", "c")}, unidirectional=True, associated_to=2, priority=5, slot=7),
        ),
        (control(2, b"\0\0\0\1" + block(b"\0\0\0\0"), flags=1), SynReply(1, {}, fin=True)),
        (control(8, b"\0\0\0\1" + block(b"\0\0\0\0")), HeadersFrame(1, {})),
    ],
)
def test_frames_of_the_draft(data, frame):
    assert list(FrameDecoder().decode(data)) == [frame]
    parts = FrameDecoder()
    decoded = [got for byte in data for got in parts.decode(bytes([byte]))]
    assert joined(decoded) == [frame]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (control(6, b"\0\0\0\1", version=2), "another version"),
        (control(1, b"", length=MAX_CONTROL + 1), "a control frame of"),
        (control(1, b"\0\0\0\1"), "too short"),
        (control(2, b""), "too short"),
        (control(3, b"\0\0\0\1"), "too short"),
        (control(6, b""), "too short"),
        (control(7, b"\0\0\0\1"), "too short"),
        (control(9, b"\0\0\0\1"), "too short"),
        (control(4, b"\0\0\0\2" + bytes(8)), "count is not its length"),
        (control(4, b"\xff\xff\xff\xff" + bytes(8)), "count is not its length"),
        (b"\0\0\0\0\0\0\0\1x", "the stream 0"),
        (control(3, bytes(4) + ONE), "the stream 0"),
        (control(2, bytes(4) + block(bytes(4))), "the stream 0"),
        (control(2, ONE + b"no zlib"), "cannot be inflated"),
        (control(2, ONE + zlib.compress(bytes(4))), "has been ended"),
        (control(2, ONE + block(b"\0")), "cut off"),
        (control(2, ONE + block(b"\xff\xff\xff\xff" + bytes(20))), "too short for its count"),
        (control(2, ONE + block(ONE + b"\xff\xff\xff\xff" + b"a" + bytes(8))), "longer than its block"),
        (control(2, ONE + block(ONE + text(b"A", b"b"))), "lower case"),
        (control(2, ONE + block(ONE + text(b"", b"b"))), "empty"),
        (control(2, ONE + block(b"\0\0\0\2" + text(b"a", b"b", b"a", b"c"))), "twice"),
        (control(2, ONE + block(ONE + text(b"a", b"b") + b"c")), "surplus"),
        (control(2, ONE + block(ONE + text(b"a", bytes(MAX_BLOCK)))), "more than"),
    ],
)
def test_what_cannot_be_a_frame(data, reason):
    with pytest.raises(SpdyError, match=reason):
        list(FrameDecoder().decode(data))


def test_types_that_are_not_known_are_left_out():
    data = control(5, b"") + control(10, b"credential") + control(6, ONE)
    assert list(FrameDecoder().decode(data)) == [Ping(1)]


def test_a_bomb_is_not_inflated():
    """A hundred megabytes in one control frame: what is beyond the limit is never made."""
    compressor = zlib.compressobj(zdict=DICTIONARY, level=9)
    packed = b"".join(compressor.compress(bytes(1024 * 1024)) for _ in range(20))
    packed += compressor.flush(zlib.Z_SYNC_FLUSH)
    assert len(packed) < MAX_CONTROL
    with pytest.raises(SpdyError, match="more than"):
        HeaderDecompressor().decompress(packed)


def test_compression_goes_on_over_frames():
    compressor, decompressor = HeaderCompressor(), HeaderDecompressor()
    sizes = []
    for _ in range(50):
        packed = compressor.compress({"streamtype": ("stdout",), "port": ("8080",), "é": ("", "x")})
        sizes.append(len(packed))
        expected = {"streamtype": ("stdout",), "port": ("8080",), "é": ("", "x")}
        assert decompressor.decompress(packed) == expected
    assert sizes[-1] < sizes[0]


class TestSession:
    """Both sides of a connection, in memory."""

    def setup_method(self) -> None:
        self.client = Session(client=True)
        self.server = Session()

    def opened(self, **options: bool) -> int:
        stream_id, data = self.client.open({"a": ("b",)}, **options)
        (frame,) = self.server.receive(data)
        assert frame == SynStream(stream_id, {"a": ("b",)}, **options)
        return stream_id

    def test_a_stream_from_its_start_to_its_end(self):
        stream_id = self.opened()
        assert self.client.receive(self.server.reply(stream_id)) == [SynReply(stream_id)]
        header = self.client.data(stream_id, 3)
        assert self.server.receive(header + b"abc") == [Data(stream_id, memoryview(b"abc"))]
        ended = [Data(stream_id, memoryview(b""), fin=True)]
        assert self.server.receive(self.client.data(stream_id, 0, fin=True)) == ended
        assert self.server.is_open(stream_id)
        assert self.client.receive(self.server.data(stream_id, 0, fin=True)) == ended
        assert not self.server.is_open(stream_id)
        assert not self.client.is_open(stream_id)
        for send in (self.server.reply, lambda stream: self.server.data(stream, 1)):
            with pytest.raises(SpdyError):
                send(stream_id)
        assert self.server.reset(stream_id) == b""

    def test_ids(self):
        assert [self.opened(), self.opened()] == [1, 3]
        assert self.server.open({})[0] == 2

    @pytest.mark.parametrize("stream_id", [2, 1, 3])
    def test_an_id_that_may_not_be_opened(self, stream_id):
        encode = Encoder()
        assert self.server.receive(encode(SynStream(3)))
        assert self.server.receive(encode(SynStream(stream_id))) == []
        assert self.server.take_output() == frames.encode(RstStream(stream_id, 1))
        assert self.server.is_open(3)

    def test_too_many_streams_are_refused(self):
        encode, server = Encoder(), Session(max_streams=2)
        for stream_id in (1, 3):
            assert server.receive(encode(SynStream(stream_id)))
        assert server.receive(encode(SynStream(5))) == []
        assert server.take_output() == frames.encode(RstStream(5, 3))
        server.reset(1)
        assert server.receive(encode(SynStream(7)))

    def test_data_behind_the_end_resets_the_stream(self):
        stream_id = self.opened(fin=True)
        data = frames.data_header(stream_id, 1, fin=False) + b"x"
        assert self.server.receive(data) == [RstStream(stream_id, 9)]
        assert self.server.take_output() == frames.encode(RstStream(stream_id, 9))
        assert not self.server.is_open(stream_id)

    def test_frames_for_what_has_ended_mean_nothing(self):
        encode = Encoder()
        self.server.receive(encode(SynStream(1)))
        self.server.reset(1)
        late = [
            Data(1, memoryview(b"x"), fin=True),
            RstStream(1, 5),
            HeadersFrame(1, {}, fin=True),
            SynReply(1),
            WindowUpdate(1, 1),
            Settings(()),
        ]
        assert self.server.receive(b"".join(map(encode, late))) == []
        assert self.server.take_output() == b""

    def test_a_reset_ends_both_directions(self):
        stream_id = self.opened()
        reset = self.client.reset(stream_id)
        assert self.server.receive(reset) == [RstStream(stream_id, 5)]
        assert not self.server.is_open(stream_id)

    def test_pings(self):
        number, data = self.client.ping()
        assert number == 1
        assert self.server.receive(data) == []
        assert self.client.receive(self.server.take_output()) == [Ping(1)]
        assert self.server.ping()[0] == 2
        assert self.client.ping()[0] == 3

    def test_headers_and_their_end(self):
        stream_id = self.opened()
        more = self.client.headers(stream_id, {"c": ("d",)}, fin=True)
        assert self.server.receive(more) == [HeadersFrame(stream_id, {"c": ("d",)}, fin=True)]
        assert self.server.is_open(stream_id)
        with pytest.raises(SpdyError):
            self.client.data(stream_id, 1)

    def test_unidirectional(self):
        stream_id = self.opened(unidirectional=True)
        with pytest.raises(SpdyError):
            self.server.data(stream_id, 1)
        assert self.server.sending() == ()

    def test_behind_goaway_nothing_is_opened(self):
        encode = Encoder()
        self.server.receive(encode(SynStream(5)))
        assert self.client.receive(self.server.go_away()) == [GoAway(5, 0)]
        with pytest.raises(SpdyError):
            self.client.open({})
        assert self.server.receive(encode(SynStream(7))) == []
        assert self.server.take_output() == b""

    def test_a_peer_that_respects_windows_never_waits(self):
        """It is told a window without bound, and gets as much again when half of it is used."""
        (settings,) = list(FrameDecoder().decode(self.server.start()))
        assert settings == Settings((Setting(7, 2**31 - 1),))
        stream_id = self.opened()
        piece = bytes(1 << 20)
        window = 2**31 - 1
        for _ in range(3000):
            header = self.client.data(stream_id, len(piece))
            window -= len(piece)
            assert window >= 0
            self.server.receive(header)
            self.server.receive(piece)
            for update in FrameDecoder().decode(self.server.take_output()):
                assert isinstance(update, WindowUpdate)
                assert update.stream_id == stream_id
                window += update.delta
        assert window <= 2**31 - 1

    def test_a_frame_that_is_too_long_to_send(self):
        stream_id = self.opened()
        with pytest.raises(SpdyError):
            self.client.data(stream_id, 1 << 24)
