"""What the user's converters raise while an attempt begins and ends becomes its outcome."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from perdure import activity
from perdure.activity import ActivityCancellationDetails
from perdure.api.failure.v1 import Failure
from perdure.api.workflowservice.v1 import PollActivityTaskQueueResponse
from perdure.converter import (
    DataConverter,
    DefaultFailureConverter,
    DefaultPayloadConverter,
    PayloadConverter,
    SerializationContext,
    WithSerializationContext,
)
from perdure.worker._activity_attempt import Attempt, Outcome
from perdure.worker._activity_registry import ActivityRegistry
from perdure.worker._activity_runner import ActivityRunner


@activity.defn
async def hangs() -> None:
    """Wait until it is cancelled."""
    activity.heartbeat()
    await asyncio.Event().wait()


def _attempt(converter: DataConverter) -> tuple[ActivityRunner, Attempt]:
    environment: Any = SimpleNamespace(
        namespace="ns",
        task_queue="queue",
        client=None,
        data_converter=converter,
        interceptors=[],
        metric_meter=None,
        encode_headers=False,
    )
    start = PollActivityTaskQueueResponse(task_token=b"token")
    start.activity_type.name = "hangs"
    runner = ActivityRunner(environment, ActivityRegistry([hangs], None, None), None, None, print)
    return runner, Attempt(start, environment, is_local=True)


class _NoContext(DefaultPayloadConverter, WithSerializationContext):
    def with_context(self, context: SerializationContext) -> _NoContext:
        raise KeyError("no such tenant")


def test_a_converter_that_knows_no_such_activity_fails_the_attempt() -> None:
    async def scenario() -> Outcome:
        runner, attempt = _attempt(replace(DataConverter.default, payload_converter_class=_NoContext))
        return await runner.run(attempt)

    outcome = asyncio.run(scenario())
    assert outcome.failure is not None
    assert "no such tenant" in outcome.failure.message


class _Refusing(DefaultFailureConverter):
    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        raise KeyError("no failures here")


def test_a_cancellation_that_cannot_be_converted_is_reported_all_the_same() -> None:
    async def scenario() -> Outcome:
        runner, attempt = _attempt(replace(DataConverter.default, failure_converter_class=_Refusing))
        attempt.task = asyncio.create_task(runner.run(attempt))
        async with asyncio.timeout(10):
            while not attempt.is_executing:
                await asyncio.sleep(0)
            attempt.cancel(ActivityCancellationDetails(cancel_requested=True))
            outcome: Outcome = await attempt.task
        return outcome

    outcome = asyncio.run(scenario())
    assert outcome.is_canceled
    assert outcome.failure is not None
    assert "no failures here" in outcome.failure.message
