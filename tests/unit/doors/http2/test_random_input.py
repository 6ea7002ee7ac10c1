"""Bytes of every kind: the pieces they come in change nothing, and no bytes do harm."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.server.doors.http2 import frames
from perdure.server.doors.http2.frames import frame
from tests.unit.doors.http2.support import OPENING, REQUEST, Frame, Wire, parse

END = frames.END_HEADERS | frames.END_STREAM
MOST_OUTPUT_PER_BYTE = 200


def _conversation(seed: int) -> bytes:
    """A valid client's bytes: calls of all shapes, some cancelled, pings, windows."""
    chance = random.Random(seed)
    wire = Wire(is_open=False)
    parts, waiting = [OPENING], []
    for number in range(1, 2 * chance.randrange(1, 25), 2):
        flags = chance.choice((0, frames.PADDED))
        block = wire.encoder.encode([*REQUEST, ("grpc-timeout", f"{chance.randrange(9) + 1}S")])
        if chance.random() < 0.2:
            parts.append(frame(frames.HEADERS, 0, number, block[:7]))
            parts.append(frame(frames.CONTINUATION, frames.END_HEADERS, number, block[7:]))
        else:
            parts.append(frame(frames.HEADERS, frames.END_HEADERS, number, block))
        for _ in range(chance.randrange(3)):
            body = chance.randbytes(chance.randrange(1, 300))
            padding = bytes(chance.randrange(256)) if flags else b""
            payload = bytes((len(padding),)) + body + padding if flags else body
            parts.append(frame(frames.DATA, flags, number, payload))
        fate = chance.random()
        if fate < 0.7:
            parts.append(frame(frames.DATA, frames.END_STREAM, number, b"end"))
        elif fate < 0.8:
            parts.append(frames.rst_stream(number, frames.ErrorCode.CANCEL))
        else:
            waiting.append(number)
        if chance.random() < 0.2:
            parts.append(frames.window_update(0, chance.randrange(1, 1000)))
        if chance.random() < 0.1:
            parts.append(frame(frames.PING, frames.ACK, 0, bytes(8)))
        if chance.random() < 0.1:
            parts.append(frames.settings({frames.INITIAL_WINDOW_SIZE: chance.randrange(70_000)}))
    parts += [frame(frames.DATA, frames.END_STREAM, number, b"late end") for number in waiting]
    # In the end everything may be sent; what waited before that depends on when the windows were looked at.
    parts += [frames.settings({frames.INITIAL_WINDOW_SIZE: 2**20}), frames.window_update(0, 2**24)]
    return b"".join(parts)


def _outcome(wire: Wire, sent: list[Frame]) -> object:
    """What a client got: each stream's header blocks and body; the connection's own frames in their order."""
    bodies: dict[int, bytes] = {}
    others: dict[int, list[Frame]] = {}
    for one in sent:
        if one.kind == frames.DATA:
            bodies[one.stream_id] = bodies.get(one.stream_id, b"") + one.payload
        else:
            others.setdefault(one.stream_id, []).append(one)
    return bodies, others, wire.recorder.bodies, sorted(wire.recorder.open)


@given(st.integers(0, 10**6), st.integers(1, 2_000), st.integers(0, 10**6))
@settings(max_examples=150)
def test_the_pieces_in_which_bytes_come_change_nothing(seed: int, largest: int, cuts: int) -> None:
    data = _conversation(seed)
    whole = Wire(answer=b"a" * 5_000, is_open=False)
    whole.send(data)
    expected = _outcome(whole, whole.read())
    assert whole.recorder.events

    pieces, sent = Wire(answer=b"a" * 5_000, is_open=False), []
    chance, position = random.Random(cuts), 0
    while position < len(data):
        size = chance.randrange(1, largest + 1)
        pieces.send(data[position : position + size])
        position += size
        sent += pieces.read()
    assert _outcome(pieces, sent) == expected


def _check_sane(wire: Wire, received: int) -> None:
    output = wire.connection.take()
    sent = [] if output.startswith(b"HTTP/1.1 400 ") else parse(output)
    assert sum(len(one.payload) + 9 for one in sent) <= 1_000 + received * MOST_OUTPUT_PER_BYTE
    assert len(wire.connection._rest) <= frames.DEFAULT_FRAME_BYTES + 9
    # Whatever the bytes were, the connection can be lost, and then nothing of it is left.
    wire.connection.lost()
    assert not wire.recorder.open
    assert not wire.connection.streams
    assert wire.connection.outbox.pending_bytes == 0
    assert not wire.connection.outbox.waiting


@given(st.binary(max_size=2_000), st.booleans())
@settings(max_examples=300)
def test_random_bytes_do_no_harm(data: bytes, is_open: bool) -> None:
    wire = Wire(is_open=is_open)
    wire.send(data)
    _check_sane(wire, len(data))


_FRAMES = st.lists(
    st.tuples(
        st.integers(0, 11),
        st.integers(0, 255),
        st.sampled_from((0, 1, 1, 2, 3, 5, 7)),
        st.binary(max_size=60),
    ),
    max_size=25,
)


@given(_FRAMES)
@settings(max_examples=500)
def test_random_frames_do_no_harm(sent: list[tuple[int, int, int, bytes]]) -> None:
    wire = Wire()
    data = b"".join(frame(*one) for one in sent)
    wire.send(data)
    _check_sane(wire, len(data))


@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5),
)
@settings(max_examples=300)
def test_damaged_conversations_do_no_harm(seed: int, damages: list[tuple[int, int]]) -> None:
    data = bytearray(_conversation(seed))
    for position, value in damages:
        data[position % len(data)] = value
    wire = Wire()
    wire.send(bytes(data[len(OPENING) :]))
    _check_sane(wire, len(data))
