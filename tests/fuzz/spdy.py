"""Fuzzes the SPDY framing with atheris: `python -m tests.fuzz.spdy [CORPUS] [-max_total_time=60]`.

Whatever comes in, the core raises its own error or none, keeps no more than its limits, and answers with no
more than it was sent. Half of the inputs are frames put together at random, since few mutations of a
compressed header get past zlib.
"""

from __future__ import annotations

import sys

import atheris

from tests.fuzz.source import Source

with atheris.instrument_imports(include=["vkubelet.server.streams.spdy"]):
    from vkubelet.server.streams.spdy import frames
    from vkubelet.server.streams.spdy.decoder import MAX_CONTROL
    from vkubelet.server.streams.spdy.error import SpdyError
    from vkubelet.server.streams.spdy.headers import HeaderCompressor
    from vkubelet.server.streams.spdy.session import Session

MAX_STREAMS = 8


def made(source: Source) -> bytes:
    """Frames as a peer might send them, well-formed or nearly so."""
    compressor = HeaderCompressor()
    parts = []
    while source.remaining_bytes() > 4 and len(parts) < 50:
        stream_id = source.ConsumeIntInRange(0, 12)
        fin = source.ConsumeBool()
        number = source.ConsumeIntInRange(0, 2**32 - 1)
        text = source.ConsumeBytes(source.ConsumeIntInRange(0, 12)).decode("latin-1")
        match source.ConsumeIntInRange(0, 9):
            case 0 | 1:
                headers = {text.lower(): (text,)}
                unidirectional = source.ConsumeBool()
                frame: frames.HeaderFrame = frames.SynStream(stream_id, headers, fin, unidirectional)
                parts.append(frames.encode_with_headers(frame, compressor.compress(headers)))
            case 2:
                frame = frames.SynReply(stream_id, {}, fin)
                parts.append(frames.encode_with_headers(frame, compressor.compress({})))
            case 3:
                frame = frames.HeadersFrame(stream_id, {"a": (text,)}, fin)
                parts.append(frames.encode_with_headers(frame, compressor.compress(frame.headers)))
            case 4:
                parts.append(frames.encode(frames.RstStream(stream_id, number)))
            case 5:
                parts.append(frames.encode(frames.Ping(number)))
            case 6:
                parts.append(frames.encode(frames.WindowUpdate(stream_id, number)))
            case 7:
                parts.append(frames.encode(frames.Settings((frames.Setting(stream_id, number),))))
            case 8:
                parts.append(source.ConsumeBytes(source.ConsumeIntInRange(0, 20)))
            case _:
                data = text.encode("latin-1")
                parts.append(frames.data_header(stream_id, len(data), fin=fin) + data)
    return b"".join(parts)


def try_input(data: bytes) -> None:
    """Feed one input in pieces. Raises AssertionError, or what the core should never raise."""
    source = atheris.FuzzedDataProvider(data)
    step = source.ConsumeIntInRange(1, 64)
    client = source.ConsumeBool()
    stream = made(source) if source.ConsumeBool() else source.ConsumeBytes(source.remaining_bytes())
    session = Session(client=client, max_streams=MAX_STREAMS)
    if client:
        for _ in range(3):
            session.open({"a": ("b",)})
    answered = passed_on = 0
    try:
        for start in range(0, len(stream), step):
            for frame in session.receive(stream[start : start + step]):
                passed_on += len(frame.data) if isinstance(frame, frames.Data) else 0
                if isinstance(frame, frames.SynStream) and not frame.unidirectional:
                    session.reply(frame.stream_id)
            answered += len(session.take_output())
            assert len(session.sending()) <= MAX_STREAMS
            assert len(session._decoder._partial) < MAX_CONTROL + 8
    except SpdyError:
        pass
    assert passed_on <= len(stream)
    # A refused SYN_STREAM of at least 18 bytes is answered with 16, a byte of data for a closed stream once.
    assert answered <= 2 * len(stream)


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_input)
    atheris.Fuzz()
