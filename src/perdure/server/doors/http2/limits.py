"""What a peer may make us do or keep. Every limit has a name here; nothing else lives here but the rate limiter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# --- the connection's life, seconds
HANDSHAKE_S: Final = 20.0
"""How long a connection may take until its preface and settings have come."""
KEEPALIVE_TIME_S: Final = 60.0
"""A peer silent for so long is asked for a sign of life (PING)."""
KEEPALIVE_TIMEOUT_S: Final = 10.0
"""How long it has to answer."""
MAX_IDLE_S: Final = 3600.0
"""A connection without calls for so long is drained and closed; clients open another one when they need it."""
STALL_S: Final = 60.0
"""In so many seconds a peer must take `STALL_BYTES` of an answer that waits for its window, or the call is reset."""
STALL_BYTES: Final = 4_096
REQUEST_S: Final = 120.0
"""How long the request of a unary call may take to come."""
DRAIN_PING_S: Final = 1.0
"""How long a draining connection waits for proof that its peer knows of it."""
TICK_S: Final = 5.0
"""How often the times above are looked at."""

# --- size
MAX_CONNECTIONS: Final = 10_000
MAX_STREAMS: Final = 10_000
"""Calls of one connection. Clients hold back calls beyond it.

Half of what all connections may have together (`Limits.calls`), so that one, with a client that waits for too many
results at once, leaves as much to all others. Far above what a worker needs, whose polls are counted in hundreds:
whoever is held back here waits with everything else that he sends on the connection.
"""
STREAM_WINDOW_SLACK: Final = 64 * 1024
"""By how much a stream's window exceeds the longest message, so that a unary call never needs more window."""
CONNECTION_WINDOW: Final = 32 * 1024 * 1024
CONNECTION_CREDIT_STEP: Final = 1024 * 1024
"""The connection's window is renewed in steps of this size."""
STREAM_CREDIT_STEP: Final = 64 * 1024
"""The window of a streaming call is renewed in steps of this size."""
MAX_BUFFERED_REQUEST_BYTES: Final = 512 * 1024 * 1024
"""Parts of requests that are not complete, of all connections together."""
MAX_PENDING_ANSWER_BYTES: Final = 256 * 1024 * 1024
"""Answers that wait for one peer's windows. One more answer becomes an error."""
MAX_ALL_PENDING_ANSWER_BYTES: Final = 1024 * 1024 * 1024
"""The same of all peers together, so that many slow ones do not take all memory."""
MAX_UNSENT_BYTES: Final = 8 * 1024 * 1024
"""What the transport may hold. Answers stop far below; a peer that only makes us write is cut off."""
WRITE_HIGH_WATER_BYTES: Final = 512 * 1024
"""No answers are written while the transport holds more."""
WRITE_CHUNK_BYTES: Final = 512 * 1024
"""Bytes of answers given to the transport at once."""
STREAM_QUEUE_MESSAGES: Final = 64
"""Messages of a streaming call that wait for its handler; more reset the call."""

# --- headers
MAX_HEADER_BLOCK_BYTES: Final = 32 * 1024
MAX_HEADER_LIST_BYTES: Final = 64 * 1024
"""Decoded, 32 bytes added for each field, as HTTP/2 counts."""
MAX_CONTINUATIONS: Final = 32
"""Frames of one header block."""
MAX_REMEMBERED_BLOCKS: Final = 128
MAX_REMEMBERED_BLOCK_BYTES: Final = 2_048
MAX_ANSWER_HEADER_BYTES: Final = 8_000
"""Longest list of trailers: the strictest client of gRPC's own takes 8 KiB of headers for certain."""

# --- rates
RESET_BURST: Final = 10_000
RESETS_PER_S: Final = 500.0
"""Calls a peer may abandon, or make us reset, without GOAWAY."""
CONTROL_BURST: Final = 2_000
CONTROLS_PER_S: Final = 200.0
"""Frames that bring nothing: SETTINGS, PRIORITY, empty DATA, unknown ones."""
STREAMS_PER_CONTROL: Final = 100
"""Changing the window of so many streams counts as one more such frame."""
MAX_PING_STRIKES: Final = 2
"""Pings that may come too soon while nothing else is sent."""
MAX_REMEMBERED_RESETS: Final = 1_000
"""Streams we ended early, of which frames may still be under way."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that a server's configuration sets.

    Attributes:
        message_bytes: longest request message.
        min_ping_interval_s: a peer that pings more often, and does nothing else, is disconnected.
        calls: calls under way at once, of all connections together.
    """

    message_bytes: int
    min_ping_interval_s: float = 10.0
    calls: int = 20_000


class Bucket:
    """A rate limit that allows bursts.

    Args:
        burst: how much may come at once.
        per_s: how much may come each second in the long run.
    """

    __slots__ = ("_at_s", "_burst", "_left", "_per_s")

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = float(burst)
        self._at_s = 0.0

    def take(self, now_s: float) -> bool:
        """Counts one more; False when it is one too many."""
        elapsed_s = max(0.0, now_s - self._at_s)
        self._at_s = now_s
        self._left = min(self._burst, self._left + elapsed_s * self._per_s) - 1
        return self._left >= 0


class Budget:
    """What all connections of a server share: calls under way, bytes of incomplete requests and of waiting answers."""

    __slots__ = ("buffered_bytes", "calls", "pending_answer_bytes")

    def __init__(self) -> None:
        self.calls = 0
        self.pending_answer_bytes = 0
        self.buffered_bytes = 0
