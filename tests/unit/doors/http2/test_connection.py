"""The connection's state machine, rule by rule: what a peer does, and what it gets for that."""

from __future__ import annotations

import struct

import pytest

from perdure.server.doors.http2 import frames, limits
from perdure.server.doors.http2.connection import State
from perdure.server.doors.http2.frames import ErrorCode, frame
from tests.unit.doors.http2.support import (
    MESSAGE_BYTES,
    OPENING,
    PATH,
    REQUEST,
    Wire,
    body_of,
    ended_with,
    parse,
    resets,
)

END = frames.END_HEADERS | frames.END_STREAM


def test_the_first_frames_announce_our_limits_and_acknowledge_the_peers() -> None:
    wire = Wire(is_open=False)
    wire.send(OPENING)
    first, widened, acknowledged = wire.read()
    assert (first.kind, widened.kind, acknowledged) == (
        frames.SETTINGS,
        frames.WINDOW_UPDATE,
        (frames.SETTINGS, frames.ACK, 0, b""),
    )
    values = dict(struct.iter_unpack(">HI", first.payload))
    assert values[frames.HEADER_TABLE_SIZE] == 0
    assert values[frames.INITIAL_WINDOW_SIZE] > MESSAGE_BYTES + 5
    assert values[frames.MAX_CONCURRENT_STREAMS] == limits.MAX_STREAMS
    assert values[frames.MAX_HEADER_LIST_SIZE] == limits.MAX_HEADER_LIST_BYTES


def test_a_request_is_told_and_its_answer_is_headers_data_trailers() -> None:
    wire = Wire()
    wire.send(wire.request(1, b"question"))
    assert wire.recorder.bodies == {1: b"question"}
    assert wire.recorder.events == [("opened", 1), ("complete", 1), ("closed", 1)]
    head, data, tail = wire.read()
    assert (head.kind, head.flags) == (frames.HEADERS, frames.END_HEADERS)
    assert data == (frames.DATA, 0, 1, b"answer")
    assert (tail.kind, tail.flags) == (frames.HEADERS, END)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(frames.CONTINUATION, frames.END_HEADERS, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, END, 0, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, END, 2, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, END, 1, b"\xff\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
        (frame(frames.HEADERS, END, 1, b"\x40"), ErrorCode.COMPRESSION_ERROR),
        (frame(frames.HEADERS, END, 1, b"\xbe"), ErrorCode.COMPRESSION_ERROR),
        (frame(frames.HEADERS, 0, 1, b"") + frame(frames.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (
            frame(frames.HEADERS, 0, 1, b"") + frame(frames.CONTINUATION, 4, 3, b""),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (frame(frames.HEADERS, 0, 1, b"") + frame(0x20, 0, 0, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, END | frames.PADDED, 1, b""), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.HEADERS, END | frames.PADDED, 1, b"\x09\x82"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, END | frames.HAS_PRIORITY, 1, b"\x00"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.DATA, frames.END_STREAM, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.DATA, frames.END_STREAM, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.SETTINGS, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
        (frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31}), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.settings({frames.MAX_FRAME_SIZE: 16_383}), ErrorCode.PROTOCOL_ERROR),
        (frames.settings({frames.MAX_FRAME_SIZE: 2**24}), ErrorCode.PROTOCOL_ERROR),
        (frames.settings({frames.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.PUSH_PROMISE, END, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.WINDOW_UPDATE, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.WINDOW_UPDATE, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frames.window_update(0, frames.MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.window_update(1, 1), ErrorCode.PROTOCOL_ERROR),
        (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.HEADERS, 0, 1, b"a" * 16_000) + frame(frames.CONTINUATION, 0, 1, b"a" * 16_000) * 3,
         ErrorCode.ENHANCE_YOUR_CALM),
        (frame(frames.HEADERS, 0, 1, b"") + frame(frames.CONTINUATION, 0, 1, b"") * 33,
         ErrorCode.ENHANCE_YOUR_CALM),
    ],
)  # fmt: skip
def test_a_peer_that_breaks_the_protocol_is_told_how_and_the_connection_ends(
    data: bytes, code: ErrorCode
) -> None:
    wire = Wire()
    wire.send(data)
    sent = wire.read()
    assert ended_with(sent) is code
    assert wire.has_ended()
    wire.send(wire.request(99))
    assert not wire.read()
    assert not wire.recorder.open


@pytest.mark.parametrize(
    "first",
    [frame(frames.PING, 0, 0, bytes(8)), frame(frames.SETTINGS, frames.ACK, 0), frame(0x33, 0, 0, b"")],
    ids=["ping", "acknowledgement", "unknown"],
)
def test_the_first_frame_must_be_settings(first: bytes) -> None:
    wire = Wire(is_open=False)
    wire.send(frames.PREFACE, first)
    assert ended_with(wire.read()) is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_an_http1_client_gets_an_answer_it_understands(method: str) -> None:
    wire = Wire(is_open=False)
    wire.send(f"{method} /path HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    answer = wire.connection.take()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"gRPC" in answer
    assert wire.has_ended()
    wire.send(b"GET / HTTP/1.1\r\n\r\n")
    assert wire.connection.take() == b""


def test_bytes_that_are_no_preface_end_the_connection() -> None:
    wire = Wire(is_open=False)
    wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
    assert ended_with(wire.read()) is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "pairs",
    [
        [pair for pair in REQUEST if pair[0] != ":method"],
        [pair for pair in REQUEST if pair[0] != ":path"],
        [pair for pair in REQUEST if pair[0] != ":scheme"],
        [*REQUEST, (":path", "/late")],
        [("te", "trailers"), *REQUEST[:4]],
        [(":status", "200"), *REQUEST],
        [*REQUEST, ("connection", "close")],
        [*REQUEST, ("Upper", "case")],
        [*REQUEST[:4], ("te", "gzip")],
        [*REQUEST, ("a", "line\nbreak")],
        [*REQUEST, ("content-length", "many")],
        [*REQUEST, ("content-length", "9" * 5000)],
        [(":path", ""), *(pair for pair in REQUEST if pair[0] != ":path")],
    ],
)
def test_a_request_whose_headers_are_malformed_is_reset_and_others_go_on(
    pairs: list[tuple[str, str]],
) -> None:
    wire = Wire()
    wire.send(wire.headers(1, END, pairs), wire.request(3))
    sent = wire.read()
    assert resets(sent) == {1: ErrorCode.PROTOCOL_ERROR}
    assert body_of(sent, 3) == b"answer"


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (frame(frames.DATA, frames.END_STREAM, 1, b"more"), ErrorCode.STREAM_CLOSED),
        (frames.window_update(1, frames.MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
        (frame(frames.WINDOW_UPDATE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, END, 1, b""), ErrorCode.STREAM_CLOSED),
    ],
)
def test_a_mistake_on_one_stream_resets_that_stream_only(after: bytes, code: ErrorCode) -> None:
    wire = Wire(answer=None)
    wire.send(wire.request(1), wire.request(3), after)
    sent = wire.read()
    assert resets(sent) == {1: code}
    assert ended_with(sent) is None
    assert list(wire.recorder.open) == [3]


@pytest.mark.parametrize(
    ("trailers", "flags", "code"),
    [
        ([("x", "y")], END, None),
        ([("x", "y")], frames.END_HEADERS, ErrorCode.PROTOCOL_ERROR),
        ([(":path", "/")], END, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_trailers_may_end_a_request(
    trailers: list[tuple[str, str]], flags: int, code: ErrorCode | None
) -> None:
    wire = Wire(answer=None)
    wire.send(
        wire.headers(1), frame(frames.DATA, 0, 1, b"body"), wire.headers(1, flags=flags, pairs=trailers)
    )
    assert resets(wire.read()).get(1) == code
    assert (("complete", 1) in wire.recorder.events) == (code is None)


@pytest.mark.parametrize(("length", "is_right"), [(4, True), (3, False), (5, False)])
def test_an_announced_length_must_be_the_bodys(length: int, is_right: bool) -> None:
    wire = Wire()
    wire.send(
        wire.headers(1, pairs=[*REQUEST, ("content-length", str(length))]),
        frame(frames.DATA, frames.END_STREAM, 1, b"body"),
    )
    sent = wire.read()
    assert (body_of(sent, 1) == b"answer") == is_right
    assert resets(sent) == ({} if is_right else {1: ErrorCode.PROTOCOL_ERROR})


def test_padding_and_priority_fields_are_taken_off() -> None:
    wire = Wire()
    block = wire.encoder.encode(list(REQUEST))
    flags = frames.END_HEADERS | frames.PADDED | frames.HAS_PRIORITY
    wire.send(
        frame(frames.HEADERS, flags, 1, b"\x03" + bytes(5) + block + bytes(3)),
        frame(frames.DATA, frames.END_STREAM | frames.PADDED, 1, b"\x04body" + bytes(4)),
    )
    assert wire.recorder.bodies == {1: b"body"}


def test_a_header_block_may_come_in_pieces() -> None:
    wire = Wire()
    block = wire.encoder.encode(list(REQUEST))
    wire.send(
        frame(frames.HEADERS, frames.END_STREAM, 1, block[:3]),
        frame(frames.CONTINUATION, 0, 1, block[3:20]),
        frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[20:]),
    )
    assert wire.recorder.events[0] == ("opened", 1)
    assert body_of(wire.read(), 1) == b"answer"


def test_unknown_frames_settings_and_priorities_are_ignored() -> None:
    wire = Wire()
    wire.send(
        frame(0x7F, 0xFF, 5, b"anything"),
        frames.settings({0x7777: 7, frames.MAX_CONCURRENT_STREAMS: 0}),
        frame(frames.PRIORITY, 0, 9, bytes(5)),
        frame(frames.GOAWAY, 0, 0, bytes(8)),
        wire.request(11),
    )
    assert body_of(wire.read(), 11) == b"answer"


def test_frames_for_a_stream_that_we_ended_early_are_ignored_and_others_are_an_error() -> None:
    wire = Wire(answer=None)
    wire.send(wire.headers(1), wire.headers(3))
    wire.recorder.reply(wire.recorder.open[1], b"early")
    assert resets(wire.read()) == {1: ErrorCode.NO_ERROR}
    wire.send(
        frame(frames.DATA, 0, 1, b"late"),
        frames.window_update(1, 5),
        wire.headers(1, END, [("x", "y")]),
        frame(frames.RST_STREAM, 0, 1, bytes(4)),
    )
    assert wire.connection.state is State.OPEN
    wire.send(frame(frames.RST_STREAM, 0, 3, bytes(4)), frame(frames.DATA, 0, 3, b"after its own reset"))
    assert ended_with(wire.read()) is ErrorCode.STREAM_CLOSED


def test_a_stream_number_cannot_be_used_again() -> None:
    wire = Wire()
    wire.send(wire.request(5), wire.request(3))
    assert ended_with(wire.read()) is ErrorCode.STREAM_CLOSED


def test_reset_and_loss_close_each_stream_once() -> None:
    wire = Wire(answer=None)
    wire.send(wire.request(1), wire.request(3), frame(frames.RST_STREAM, 0, 1, bytes(4)))
    assert ("closed", 1) in wire.recorder.events
    wire.connection.lost()
    wire.connection.lost()
    assert wire.recorder.events.count(("closed", 1)) == wire.recorder.events.count(("closed", 3)) == 1


# --- windows


def test_an_answer_waits_for_the_streams_window_and_the_connections() -> None:
    wire = Wire(answer=None)
    wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 10}), wire.request(1), wire.request(3))
    wire.read()
    answer = bytes(range(256)) * 400
    wire.recorder.reply(wire.recorder.open[1], answer)
    got = body_of(wire.read(), 1)
    assert got == answer[:10]
    assert wire.connection.outbox.pending_bytes == len(answer) - 10
    wire.send(frames.window_update(1, 70_000))
    got += body_of(wire.read(), 1)
    assert len(got) == frames.DEFAULT_WINDOW
    wire.send(frames.window_update(0, 1_000_000))
    rest = wire.read()
    got += body_of(rest, 1)
    assert len(got) == 70_010
    wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 10 + len(answer)}))
    rest = wire.read()
    got += body_of(rest, 1)
    assert got == answer
    assert rest[-1].flags == END
    assert wire.connection.outbox.pending_bytes == 0
    assert ("closed", 1) in wire.recorder.events


def test_small_answers_use_up_the_connections_window_together() -> None:
    wire = Wire(answer=bytes(10_000))
    wire.send(*(wire.request(number) for number in range(1, 17, 2)))
    sent = wire.read()
    assert sum(len(one.payload) for one in sent if one.kind == frames.DATA) == frames.DEFAULT_WINDOW
    assert list(wire.recorder.open) == [13, 15]
    wire.send(frames.window_update(0, 80_000 - frames.DEFAULT_WINDOW))
    sent += wire.read()
    assert sum(len(one.payload) for one in sent if one.kind == frames.DATA) == 80_000
    assert not wire.recorder.open


def test_a_window_can_become_negative() -> None:
    wire = Wire(answer=None)
    wire.send(wire.request(1))
    wire.recorder.reply(wire.recorder.open[1], bytes(200_000))
    assert len(body_of(wire.read(), 1)) == frames.DEFAULT_WINDOW
    wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}), frames.window_update(0, 2**30))
    wire.send(frames.window_update(1, frames.DEFAULT_WINDOW))
    assert not body_of(wire.read(), 1)
    wire.send(frames.window_update(1, 5))
    assert len(body_of(wire.read(), 1)) == 5


def test_streams_take_turns() -> None:
    wire = Wire(answer=None)
    wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 2**20}), frames.window_update(0, 2**25))
    wire.send(wire.request(1), wire.request(3))
    wire.read()
    for stream in list(wire.recorder.open.values()):
        wire.recorder.reply(stream, bytes(100_000))
    order = [sent.stream_id for sent in wire.read() if sent.kind == frames.DATA and sent.payload]
    assert order == [1, 3] * 7


def test_a_small_answer_passes_a_large_one_that_waits_for_its_stream() -> None:
    wire = Wire(answer=None)
    wire.send(frames.window_update(0, 2**25), wire.request(1), wire.request(3))
    wire.recorder.reply(wire.recorder.open[1], bytes(200_000))
    wire.read()
    wire.recorder.reply(wire.recorder.open[3], b"small")
    assert body_of(wire.read(), 3) == b"small"


def test_a_full_transport_stops_answers_but_not_the_connections_own_frames() -> None:
    wire = Wire(answer=None)
    wire.send(wire.request(1), wire.request(3))
    wire.connection.pause()
    wire.recorder.reply(wire.recorder.open[1], b"one")
    wire.send(frame(frames.PING, 0, 0, b"12345678"))
    assert [frame.kind for frame in wire.read()] == [frames.PING]
    wire.connection.resume()
    sent = wire.read()
    assert [frame.kind for frame in sent] == [frames.HEADERS, frames.DATA, frames.HEADERS]
    assert body_of(sent, 1) == b"one"


def test_output_is_handed_out_in_pieces_and_long_answers_are_not_copied_before() -> None:
    wire = Wire(answer=None)
    wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31 - 1}), frames.window_update(0, 2**30))
    wire.send(wire.request(1))
    wire.read()
    wire.recorder.reply(wire.recorder.open[1], bytes(20_000_000))
    first = wire.connection.take()
    assert len(first) < limits.WRITE_CHUNK_BYTES + 2 * frames.DEFAULT_FRAME_BYTES
    assert wire.connection.outbox.has_more
    rest = parse(first) + wire.read()
    assert len(body_of(rest, 1)) == 20_000_000


def test_what_is_received_is_credited_to_the_connection() -> None:
    wire = Wire(answer=b"")
    credited = 0
    for number in range(1, 61, 2):
        parts = [frame(frames.DATA, 0, number, bytes(16_000)) for _ in range(6)]
        wire.send(wire.headers(number), *parts, frame(frames.DATA, frames.END_STREAM, number, b""))
        credited += sum(
            frames.unsigned.unpack(sent.payload)[0]
            for sent in wire.read()
            if sent.kind == frames.WINDOW_UPDATE and sent.stream_id == 0
        )
    assert 30 * 96_000 - limits.CONNECTION_CREDIT_STEP < credited <= 30 * 96_000


def test_more_than_a_streams_window_is_an_error_of_the_stream() -> None:
    wire = Wire(answer=None)
    window = MESSAGE_BYTES + limits.STREAM_WINDOW_SLACK
    frame_count = window // 16_000 + 1
    wire.send(wire.headers(1), frame(frames.DATA, 0, 1, bytes(16_000)) * frame_count)
    assert resets(wire.read()) == {1: ErrorCode.FLOW_CONTROL_ERROR}


def test_padding_does_not_use_up_a_streams_window() -> None:
    wire = Wire(answer=None)
    padded = frame(frames.DATA, frames.PADDED, 1, b"\xffx" + bytes(255))
    window = MESSAGE_BYTES + limits.STREAM_WINDOW_SLACK
    wire.send(wire.headers(1))
    for _ in range(window // 257 * 2):
        wire.send(padded)
    assert wire.recorder.bodies[1] == b"x" * (window // 257 * 2)
    assert not resets(wire.read())


# --- pings, time


def test_a_ping_is_answered() -> None:
    wire = Wire()
    wire.send(frame(frames.PING, 0, 0, b"12345678"), frame(frames.PING, frames.ACK, 0, b"whatever"))
    assert wire.read() == [(frames.PING, frames.ACK, 0, b"12345678")]


def test_pings_that_come_too_fast_end_the_connection() -> None:
    wire = Wire()
    for _ in range(1 + limits.MAX_PING_STRIKES):
        wire.send(frame(frames.PING, 0, 0, bytes(8)))
    assert ended_with(wire.read()) is None
    wire.send(frame(frames.PING, 0, 0, bytes(8)))
    sent = wire.read()
    assert ended_with(sent) is ErrorCode.ENHANCE_YOUR_CALM
    assert sent[-1].payload.endswith(b"too_many_pings")


def test_pings_between_answers_or_far_apart_are_no_offence() -> None:
    wire = Wire()
    for number in range(1, 41, 2):
        wire.send(frame(frames.PING, 0, 0, bytes(8)), wire.request(number))
        assert ended_with(wire.read()) is None
    for _ in range(20):
        wire.now_s += 10.0
        wire.send(frame(frames.PING, 0, 0, bytes(8)))
    assert ended_with(wire.read()) is None


def test_a_silent_peer_is_asked_and_then_given_up() -> None:
    wire = Wire(answer=None)
    wire.send(wire.request(1))
    wire.connection.tick(wire.now_s + limits.KEEPALIVE_TIME_S - 1)
    assert not wire.read()
    wire.connection.tick(wire.now_s + limits.KEEPALIVE_TIME_S)
    (ping,) = wire.read()
    assert ping.kind == frames.PING
    wire.now_s += limits.KEEPALIVE_TIME_S + 1
    wire.send(frame(frames.PING, frames.ACK, 0, ping.payload))
    wire.connection.tick(wire.now_s + limits.KEEPALIVE_TIMEOUT_S)
    assert not wire.has_ended()
    wire.connection.tick(wire.now_s + limits.KEEPALIVE_TIME_S)
    wire.connection.tick(wire.now_s + limits.KEEPALIVE_TIME_S + limits.KEEPALIVE_TIMEOUT_S)
    assert wire.has_ended()
    assert ("closed", 1) in wire.recorder.events


def test_a_connection_that_never_begins_is_ended() -> None:
    wire = Wire(is_open=False)
    wire.send(frames.PREFACE[:10])
    wire.connection.tick(wire.now_s + limits.HANDSHAKE_S)
    assert not wire.has_ended()
    wire.connection.tick(wire.now_s + limits.HANDSHAKE_S + 1)
    assert wire.has_ended()


def test_an_idle_connection_is_drained_and_a_waiting_call_keeps_it() -> None:
    wire = Wire(answer=None)
    wire.send(wire.request(1))
    later_s = wire.now_s
    for _ in range(200):
        later_s += limits.MAX_IDLE_S / 100
        wire.connection.receive(frame(frames.PING, frames.ACK, 0, bytes(8)), later_s)
        wire.connection.tick(later_s)
    assert wire.connection.state is State.OPEN
    wire.recorder.reply(wire.recorder.open[1], b"")
    for _ in range(103):
        later_s += limits.MAX_IDLE_S / 100
        wire.connection.receive(frame(frames.PING, frames.ACK, 0, bytes(8)), later_s)
        wire.connection.tick(later_s)
    assert wire.has_ended()
    assert ended_with(wire.read()) is ErrorCode.NO_ERROR


def test_a_caller_that_does_not_take_its_answer_loses_it_and_a_slow_one_does_not() -> None:
    wire = Wire(answer=None)
    wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}), wire.request(1), wire.request(3))
    for stream in list(wire.recorder.open.values()):
        wire.recorder.reply(stream, bytes(80_000))
    sent = wire.read()
    for _ in range(14):
        wire.now_s += limits.TICK_S
        wire.send(frames.window_update(3, 1_000))
        wire.connection.tick(wire.now_s)
        sent += wire.read()
    assert resets(sent) == {1: ErrorCode.ENHANCE_YOUR_CALM}
    assert list(wire.recorder.open) == [3]
    assert wire.connection.outbox.pending_bytes == 80_000 - 14_000


# --- leaving


def test_leaving_serves_what_is_under_way_until_the_peer_has_heard() -> None:
    wire = Wire(answer=None)
    wire.send(wire.request(1))
    wire.connection.leave(wire.now_s)
    goaway, ping = wire.read()
    assert frames.unsigned.unpack_from(goaway.payload)[0] == frames.MAX_STREAM_ID
    wire.send(wire.request(3), frame(frames.PING, frames.ACK, 0, ping.payload), wire.request(5))
    sent = wire.read()
    assert resets(sent) == {5: ErrorCode.REFUSED_STREAM}
    (last,) = [frame for frame in sent if frame.kind == frames.GOAWAY]
    assert frames.unsigned.unpack_from(last.payload)[0] == 3
    for stream in list(wire.recorder.open.values()):
        assert not wire.has_ended()
        wire.recorder.reply(stream, b"done")
    assert wire.has_ended()
    assert body_of(wire.read(), 3) == b"done"


def test_a_peer_that_never_confirms_is_drained_all_the_same() -> None:
    wire = Wire()
    wire.connection.leave(wire.now_s)
    wire.connection.tick(wire.now_s + limits.DRAIN_PING_S)
    assert wire.has_ended()


# --- floods


def _count_until_ended(wire: Wire, data: bytes, most: int) -> int:
    for number in range(most):
        wire.send(data)
        wire.read()
        if wire.has_ended():
            return number
    return most


@pytest.mark.parametrize(
    "data",
    [frames.settings({}), frame(frames.PRIORITY, 0, 1, bytes(5)), frame(0x99, 0, 0, b"")],
    ids=["settings", "priority", "unknown"],
)
def test_frames_that_ask_for_nothing_are_limited(data: bytes) -> None:
    wire = Wire()
    most = limits.CONTROL_BURST + 10
    assert most - 20 < _count_until_ended(wire, data, most) < most


def test_changing_the_window_of_many_streams_is_limited() -> None:
    wire = Wire(answer=None)
    for number in range(1, 2 * 100 * limits.STREAMS_PER_CONTROL, 2):
        wire.send(wire.request(number))
    sizes = [frames.settings({frames.INITIAL_WINDOW_SIZE: size}) for size in (1, 2)]
    assert _count_until_ended(wire, b"".join(sizes), 100) == limits.CONTROL_BURST // 101 // 2


def test_empty_data_frames_are_limited() -> None:
    wire = Wire()
    wire.send(wire.headers(1))
    most = limits.CONTROL_BURST + 10
    assert _count_until_ended(wire, frame(frames.DATA, 0, 1, b""), most) < most


def test_abandoned_calls_are_limited_and_the_limit_recovers() -> None:
    wire = Wire(answer=None)
    block, number = wire.headers(1)[9:], 1
    for _ in range(limits.RESET_BURST):
        wire.send(frame(frames.HEADERS, END, number, block), frames.rst_stream(number, ErrorCode.CANCEL))
        number += 2
    assert not wire.has_ended()
    wire.now_s += 10
    for _ in range(round(limits.RESETS_PER_S * 10)):
        wire.send(frame(frames.HEADERS, END, number, block), frames.rst_stream(number, ErrorCode.CANCEL))
        number += 2
    assert not wire.has_ended()
    wire.send(frame(frames.HEADERS, END, number, block), frames.rst_stream(number, ErrorCode.CANCEL))
    assert ended_with(wire.read()) is ErrorCode.ENHANCE_YOUR_CALM


def test_streams_that_a_peer_makes_us_reset_are_limited_too() -> None:
    wire = Wire(answer=None)
    block, number = wire.headers(1)[9:], 1
    while not wire.has_ended():
        wire.send(frame(frames.HEADERS, END, number, block), frame(frames.WINDOW_UPDATE, 0, number, bytes(4)))
        number += 2
        assert number < 2 * limits.RESET_BURST + 10
    assert ended_with(wire.read()) is ErrorCode.ENHANCE_YOUR_CALM


def test_a_long_header_list_ends_the_connection() -> None:
    wire = Wire()
    wire.send(wire.headers(1, END, [*REQUEST, ("a", "b" * 10_000)]))
    assert body_of(wire.read(), 1) == b"answer"
    bomb = frame(frames.HEADERS, 0x4, 3, b"\x40\x01a\x7f\x90\x1e" + b"b" * 3_983)
    wire = Wire()
    wire.send(bomb, frame(frames.HEADERS, 0x4, 5, b"\xbe" * 10_000))
    assert ended_with(wire.read()) is ErrorCode.ENHANCE_YOUR_CALM


def test_more_streams_than_announced_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.server.doors.http2.connection.MAX_STREAMS", 2)
    wire = Wire(answer=None)
    wire.send(wire.request(1), wire.request(3), wire.request(5))
    assert resets(wire.read()) == {5: ErrorCode.REFUSED_STREAM}
    assert wire.recorder.open[1].headers.path == PATH
