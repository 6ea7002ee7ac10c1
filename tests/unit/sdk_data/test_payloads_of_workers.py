"""What a worker does with payloads: each is decoded once, in its own context, and stored for who reads it."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.api.common.v1 import Payload
from perdure.client import Client, WorkflowFailureError
from perdure.converter import (
    ActivitySerializationContext,
    DataConverter,
    ExternalStorage,
    PayloadCodec,
    SerializationContext,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverWorkflowInfo,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from perdure.exceptions import ApplicationError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from tests.unit.sdk_data.drivers import MemoryDriver, run


@activity.defn
async def double(text: str) -> str:
    """Return the text twice."""
    return text * 2


@workflow.defn
class Inner:
    """A child."""

    @workflow.run
    async def run(self, text: str) -> str:
        """Return the text."""
        return text


@workflow.defn
class Outer:
    """Calls an activity, then a child."""

    @workflow.run
    async def run(self, text: str) -> str:
        """Return what the child returns."""
        text = await workflow.execute_activity(double, text, start_to_close_timeout=timedelta(seconds=20))
        return await workflow.execute_child_workflow(
            Inner.run, text, id=f"{workflow.info().workflow_id}-child"
        )


class RecordingCodec(PayloadCodec, WithSerializationContext):
    """Writes down what it is asked to do, and in which context."""

    def __init__(self, records: list[tuple[str, str]], context: SerializationContext | None = None) -> None:
        self.records = records
        self.context = context

    def with_context(self, context: SerializationContext) -> RecordingCodec:
        """Return a codec with the same list."""
        return RecordingCodec(self.records, context)

    def _record(self, what: str, payloads: Sequence[Payload]) -> list[Payload]:
        match self.context:
            case ActivitySerializationContext():
                whose = "activity"
            case WorkflowSerializationContext(workflow_id=workflow_id):
                whose = "child" if workflow_id.endswith("-child") else "workflow"
            case _:
                whose = "nobody"
        self.records.extend([(what, whose)] * len(payloads))
        return list(payloads)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Record, and change nothing."""
        return self._record("encode", payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Record, and change nothing."""
        return self._record("decode", payloads)


async def _execute(text: str, **options: Any) -> str:
    async with await WorkflowEnvironment.start_local() as environment:
        config = environment.client.config()
        config["data_converter"] = dataclasses.replace(DataConverter.default, **options)
        client = Client(**config)
        queue = f"queue-{uuid.uuid4()}"
        async with Worker(client, task_queue=queue, workflows=[Outer, Inner], activities=[double]):
            return await client.execute_workflow(Outer.run, text, id="w", task_queue=queue)


def test_each_payload_is_encoded_and_decoded_once_in_the_context_of_its_owner() -> None:
    records: list[tuple[str, str]] = []
    assert run(_execute("a", payload_codec=RecordingCodec(records))) == "aa"
    assert records == [
        (step, whose)
        for whose in ("workflow", "activity", "activity", "child", "child", "workflow")
        for step in ("encode", "decode")
    ]


def test_large_payloads_are_stored_for_the_workflow_that_reads_them() -> None:
    driver = MemoryDriver()
    storage = ExternalStorage([driver], payload_size_threshold=100)
    assert run(_execute("x" * 200, external_storage=storage)) == "x" * 400
    targets = [context.target for context in driver.contexts]
    assert all(isinstance(target, StorageDriverWorkflowInfo) for target in targets)
    # Input, activity's input and result, child's input, child's result (for its parent), result.
    assert [target.id if target else None for target in targets] == ["w", "w", "w", "w-child", "w", "w"]


class RefusingDriver(MemoryDriver):
    """Stores, and never finds anything again."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.asked = 0

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Raise the error."""
        self.asked += 1
        raise self.error


def test_an_input_that_is_gone_for_good_fails_the_workflow() -> None:
    driver = RefusingDriver(ApplicationError("bucket deleted", type="Gone", non_retryable=True))
    with pytest.raises(WorkflowFailureError) as raised:
        run(_execute("x" * 200, external_storage=ExternalStorage([driver], payload_size_threshold=100)))
    cause = raised.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.message, cause.type, driver.asked) == ("bucket deleted", "Gone", 1)


def test_an_input_that_cannot_be_read_now_is_not_asked_for_in_a_hot_loop() -> None:
    driver = RefusingDriver(OSError("no route to host"))
    asked_twice = asyncio.Event()

    async def retrieve(context: Any, claims: Any) -> list[Payload]:
        driver.asked += 1
        if driver.asked == 2:
            asked_twice.set()
        raise driver.error

    driver.retrieve = retrieve  # type: ignore[method-assign]

    async def scenario() -> None:
        storage = ExternalStorage([driver], payload_size_threshold=100)
        execution = asyncio.create_task(_execute("x" * 200, external_storage=storage))
        await asyncio.wait_for(asked_twice.wait(), 30)
        # Whatever is already on its way has a second to arrive.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(execution, 1)

    run(scenario())
    # The first failure is reported and the task tried again at once; that one is left to its time limit.
    assert driver.asked == 2
