"""Heartbeats of one activity: at most one in an interval, always the newest, and what the server says back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure.activity import ActivityCancellationDetails
from perdure.api.common.v1 import Payloads
from perdure.api.workflowservice.v1 import RecordActivityTaskHeartbeatRequest
from perdure.service import RPCError, RPCStatusCode
from perdure.worker._calls import call_until

if TYPE_CHECKING:
    from perdure.converter import DataConverter
    from perdure.worker._environment import Environment

logger = logging.getLogger("perdure.worker")

_CALL_TIMEOUT = timedelta(seconds=5)
_AFTER_ERROR_S = 0.1


class Heartbeater:
    """Sends the heartbeats of one attempt. Everything but `beat` runs on the worker's event loop.

    Args:
        environment: Of the worker.
        task_token: Names the attempt.
        interval_s: Shortest time between two heartbeats.
        converter: Of the attempt.
        on_cancel: Called with the reason when the server wants the attempt to end.
        on_error: Called when the details cannot be encoded.
    """

    def __init__(
        self,
        environment: Environment,
        task_token: bytes,
        interval_s: float,
        converter: DataConverter,
        on_cancel: Callable[[ActivityCancellationDetails], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._environment = environment
        self._task_token = task_token
        self._interval_s = interval_s
        self._converter = converter
        self._on_cancel = on_cancel
        self._on_error = on_error
        self._unsent: Sequence[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._stopped = False
        self._loop = asyncio.get_running_loop()

    def beat(self, details: Sequence[Any]) -> None:
        """Send these details now, or when the interval is over unless newer ones come. In any thread."""
        if self._stopped:
            return
        self._unsent = details
        if asyncio._get_running_loop() is self._loop:
            self._send_if_due()
        else:
            self._loop.call_soon_threadsafe(self._send_if_due)

    def _send_if_due(self) -> None:
        if self._timer is None and self._sending is None and not self._stopped:
            self._send()

    def _send(self) -> None:
        details, self._unsent = self._unsent, None
        if details is None:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval_s, self._interval_over)
        self._sending = loop.create_task(self._record(details))
        self._sending.add_done_callback(self._sent)

    def _interval_over(self) -> None:
        self._timer = None
        self._send_if_due()

    def _sent(self, _: asyncio.Task[None]) -> None:
        self._sending = None
        self._send_if_due()

    async def _record(self, details: Sequence[Any]) -> None:
        environment = self._environment
        request = RecordActivityTaskHeartbeatRequest(
            namespace=environment.namespace, task_token=self._task_token, identity=environment.identity
        )
        try:
            if details:
                request.details.payloads.extend(await self._converter.encode(details))
        except Exception as error:  # converters and codecs are the user's code
            self._on_error(error)
            return
        newer_at_s = time.monotonic() + self._interval_s
        try:
            response = await call_until(
                lambda: 0.0 if self._stopped else newer_at_s,
                lambda: environment.service.record_activity_task_heartbeat(request, timeout=_CALL_TIMEOUT),
                "Recording a heartbeat",
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                self._on_cancel(ActivityCancellationDetails(not_found=True))
            else:
                logger.warning("A heartbeat could not be recorded (%s: %s)", error.status.name, error.message)
                self._not_recorded(details)
            return
        if response.cancel_requested or response.activity_paused or response.activity_reset:
            self._on_cancel(
                ActivityCancellationDetails(
                    cancel_requested=response.cancel_requested,
                    paused=response.activity_paused,
                    reset=response.activity_reset,
                )
            )

    def _not_recorded(self, details: Sequence[Any]) -> None:
        """Keep details for the next heartbeat, or the next attempt, unless there are newer ones."""
        if self._unsent is None:
            self._unsent = details
        at_s = self._loop.time() + _AFTER_ERROR_S
        if self._stopped or (self._timer is not None and self._timer.when() >= at_s):
            return
        # The interval is over, or there is none: a server that cannot be reached gets some time.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._interval_over)

    async def stop(self, *, keep_unsent: bool) -> Payloads | None:
        """Send nothing more.

        Args:
            keep_unsent: Whether the newest details matter to a next attempt: what is on its way arrives first.

        Returns:
            Details that were held back, if they matter and there are any.
        """
        await self._end(waits=keep_unsent)
        if not keep_unsent or not self._unsent:
            return None
        try:
            return Payloads(payloads=await self._converter.encode(self._unsent))
        except Exception:  # the user's code; the attempt failed anyway
            logger.debug("Heartbeat details of a failed attempt do not encode", exc_info=True)
            return None

    async def flush(self) -> None:
        """Send what was held back, and then nothing more."""
        await self._end(waits=True)
        details, self._unsent = self._unsent, None
        if details is not None:
            await self._record(details)

    async def _end(self, *, waits: bool) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._sending is not None:
            if waits:
                await asyncio.wait([self._sending])
            else:
                # It would go on, and be repeated, after the activity that it tells of.
                self._sending.cancel()
