"""RPCs of temporal.api.testservice.v1.TestService: the clock of a server that skips time."""

from __future__ import annotations

from perdure.api.protobuf import Empty
from perdure.api.testservice.v1 import (
    GetCurrentTimeResponse,
    LockTimeSkippingRequest,
    LockTimeSkippingResponse,
    SleepRequest,
    SleepResponse,
    SleepUntilRequest,
    UnlockTimeSkippingRequest,
    UnlockTimeSkippingResponse,
)
from perdure.core.run.protos import checked_duration_ns, set_timestamp, timestamp_ns
from perdure.server.service.call import Call
from perdure.server.time_skipping import TimeSkipping


class TestService:
    """Handlers of the RPCs on the clock.

    Args:
        time_skipping: who moves it.
    """

    __test__ = False
    """Not a test class, whatever a test runner may think of its name."""

    def __init__(self, time_skipping: TimeSkipping) -> None:
        self._time = time_skipping

    async def lock_time_skipping(
        self, request: LockTimeSkippingRequest, call: Call
    ) -> LockTimeSkippingResponse:
        """LockTimeSkipping: one more holds the clock."""
        self._time.lock()
        return LockTimeSkippingResponse()

    async def unlock_time_skipping(
        self, request: UnlockTimeSkippingRequest, call: Call
    ) -> UnlockTimeSkippingResponse:
        """UnlockTimeSkipping: one less holds the clock; never refused."""
        self._time.unlock()
        return UnlockTimeSkippingResponse()

    async def sleep(self, request: SleepRequest, call: Call) -> SleepResponse:
        """Sleep: answers when the clock has moved on by the duration; refused past the end of the clock."""
        await self._time.sleep_until(self._after(request))
        return SleepResponse()

    async def sleep_until(self, request: SleepUntilRequest, call: Call) -> SleepResponse:
        """SleepUntil: answers when the clock shows the time; refused past the end of the clock."""
        await self._time.sleep_until(timestamp_ns(request.timestamp))
        return SleepResponse()

    async def unlock_time_skipping_with_sleep(self, request: SleepRequest, call: Call) -> SleepResponse:
        """UnlockTimeSkippingWithSleep: as Sleep, with one lock less meanwhile."""
        await self._time.sleep_unlocked(self._after(request))
        return SleepResponse()

    async def get_current_time(self, request: Empty, call: Call) -> GetCurrentTimeResponse:
        """GetCurrentTime: what the clock shows."""
        response = GetCurrentTimeResponse()
        set_timestamp(response.time, self._time.now_ns())
        return response

    def _after(self, request: SleepRequest) -> int:
        return self._time.now_ns() + checked_duration_ns(request.duration, "duration")
