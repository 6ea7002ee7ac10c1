"""Calls that a worker must get through: repeated with growing waits until they are answered or no longer matter."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from perdure.service import RPCError, RPCStatusCode
from perdure.service._errors import is_too_large

ResponseT = TypeVar("ResponseT")

logger = logging.getLogger("perdure.worker")

RETRYABLE = frozenset(
    {
        RPCStatusCode.DATA_LOSS,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.UNKNOWN,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.OUT_OF_RANGE,
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
    }
)
CALL_TIMEOUT = timedelta(seconds=10)
ANSWER_GRACE_S = 10.0
"""So long a worker whose time is over goes on to answer a server that cannot be reached."""

_FIRST_WAIT_S = 0.1
_FACTOR = 1.7
_LONGEST_WAIT_S = 5.0
_THROTTLE_WAIT_S = 1.0


class Backoff:
    """Waits between tries of one call: growing, spread at random, longer when the server is overloaded."""

    def __init__(self) -> None:
        self._next_s = _FIRST_WAIT_S

    def next_s(self, error: RPCError) -> float:
        """Return how long to wait after this error, in seconds."""
        wait_s = self._next_s * random.uniform(0.8, 1.2)
        self._next_s = min(self._next_s * _FACTOR, _LONGEST_WAIT_S)
        return wait_s + _THROTTLE_WAIT_S if error.status is RPCStatusCode.RESOURCE_EXHAUSTED else wait_s


async def call_until(
    deadline_s: float | Callable[[], float], make_call: Callable[[], Awaitable[ResponseT]], what: str
) -> ResponseT:
    """Make a call, and make it again while it fails for reasons that pass.

    Args:
        deadline_s: Until when, on the monotonic clock, or what says it before each further try; the first is always
            made.
        make_call: Makes one try.
        what: What the call does, for the log.

    Returns:
        The answer.

    Raises:
        RPCError: The call was refused, or the last error before the deadline.
    """
    backoff: Backoff | None = None
    while True:
        try:
            return await make_call()
        except RPCError as error:
            if error.status not in RETRYABLE or is_too_large(error):
                raise
            backoff = backoff or Backoff()
            wait_s = backoff.next_s(error)
            limit_s = deadline_s() if callable(deadline_s) else deadline_s
            if time.monotonic() + wait_s >= limit_s:
                raise
            logger.debug(
                "%s failed (%s: %s), next try in %.1f s", what, error.status.name, error.message, wait_s
            )
        await asyncio.sleep(wait_s)
