"""Which failed calls are repeated, and when.

May live here: decisions about one failed try. May not: sleeping, clocks, calls (`_client`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from perdure.service._config import RetryConfig
from perdure.service._errors import RPCError, RPCStatusCode

RETRYABLE: Final = frozenset(
    {
        RPCStatusCode.DATA_LOSS,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.UNKNOWN,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.OUT_OF_RANGE,
        RPCStatusCode.UNAVAILABLE,
    }
)
_THROTTLE: Final = RetryConfig(
    initial_interval_millis=1000,
    randomization_factor=0.2,
    multiplier=2.0,
    max_interval_millis=10_000,
    max_elapsed_time_millis=None,
    max_retries=0,
)
# A message that is too big does not get smaller by sending it again.
_TOO_LARGE: Final = (
    "grpc: received message larger than max",
    "grpc: message after decompression larger than max",
    "grpc: received message after decompression larger than max",
)


class Backoff:
    """Waits that grow up to a limit.

    Args:
        config: The limits.
        random: Returns a number in [0, 1).
    """

    def __init__(self, config: RetryConfig, random: Callable[[], float]) -> None:
        self._config = config
        self._random = random
        self._interval_ms = float(config.initial_interval_millis)

    def next_s(self, elapsed_s: float) -> float | None:
        """Return the next wait in seconds, or None if it would end after the time allowed.

        Args:
            elapsed_s: Seconds since the first try.
        """
        config = self._config
        limit_ms = config.max_elapsed_time_millis
        if limit_ms is not None and elapsed_s * 1000 > limit_ms:
            return None
        spread_ms = config.randomization_factor * self._interval_ms
        wait_ms = self._interval_ms - spread_ms + self._random() * 2 * spread_ms
        self._interval_ms = min(self._interval_ms * config.multiplier, float(config.max_interval_millis))
        if limit_ms is not None and elapsed_s * 1000 + wait_ms > limit_ms:
            return None
        return wait_ms / 1000


class Retrier:
    """Decides for one call, try by try.

    Args:
        config: The client's retry configuration.
        random: Returns a number in [0, 1).
    """

    def __init__(self, config: RetryConfig, random: Callable[[], float]) -> None:
        self._max_tries = config.max_retries
        self._backoff = Backoff(config, random)
        self._throttle = Backoff(_THROTTLE, random)
        self._tries = 0

    @property
    def tries(self) -> int:
        """How many tries have failed so far."""
        return self._tries

    def wait_s(self, error: RPCError, elapsed_s: float) -> float | None:
        """Return how many seconds to wait before the next try, or None if the error is the caller's.

        Args:
            error: What the try ended in.
            elapsed_s: Seconds since the first try began.
        """
        self._tries += 1
        if error.status not in RETRYABLE or (self._max_tries and self._tries >= self._max_tries):
            return None
        exhausted = error.status is RPCStatusCode.RESOURCE_EXHAUSTED
        if exhausted and error.message.startswith(_TOO_LARGE):
            return None
        wait_s = self._backoff.next_s(elapsed_s)
        if wait_s is None or not exhausted:
            return wait_s
        # A server that is overloaded gets more time.
        return max(wait_s, self._throttle.next_s(elapsed_s) or 0.0)
