"""Workflow streams with everything real but the network: an engine in this process, codec, continue-as-new, replay."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.api.common.v1 import Payload
from perdure.client import Client, WorkflowHistory
from perdure.contrib.workflow_streams import WorkflowStream, WorkflowStreamClient, WorkflowStreamState
from perdure.converter import DataConverter
from perdure.testing import WorkflowEnvironment
from perdure.worker import Replayer, Worker
from tests.unit.sdk_data.drivers import ReversingCodec

LIMIT_S = 40
QUICKLY = timedelta(milliseconds=5)
QUEUE = "streams"
TEXT = "größer 😀"
CONVERTER = dataclasses.replace(DataConverter.default, payload_codec=ReversingCodec())


@dataclass
class Word:
    """An item."""

    text: str
    number: int


@activity.defn
async def publish_words(first: int, count: int) -> None:
    """Publishes more than a batch holds."""
    async with WorkflowStreamClient.from_within_activity(batch_interval=QUICKLY) as stream:
        words = stream.topic("words", type=Word)
        for number in range(first, first + count):
            words.publish(Word(TEXT, number))


@workflow.defn
class Talking:
    """Publishes by an activity and itself, run after run, and ends at once: nobody says that it was read."""

    @workflow.init
    def __init__(self, runs: int, state: WorkflowStreamState | None) -> None:
        self.stream = WorkflowStream(state)

    @workflow.run
    async def run(self, runs: int, state: WorkflowStreamState | None) -> None:
        """Ten words a run, and one of its own."""
        await workflow.execute_activity(
            publish_words, args=[runs * 10, 10], start_to_close_timeout=timedelta(seconds=20)
        )
        self.stream.topic("own").publish(runs)
        if runs > 1:
            await self.stream.continue_as_new(lambda state: [runs - 1, state])
        self.stream.detach_pollers()
        await workflow.wait_condition(workflow.all_handlers_finished)


async def _is_encoded_once(history: WorkflowHistory) -> None:
    """What publishers sent: the message as a whole, and not its items a second time."""
    inputs = [event.workflow_execution_signaled_event_attributes.input.payloads for event in history.events]
    sent = [payload for payloads in inputs for payload in payloads]
    assert sent
    assert {payload.metadata["encoding"] for payload in sent} == {b"reversed"}
    for payload in await ReversingCodec().decode(sent):
        items = json.loads(payload.data)["items"]
        decoded = [Payload.FromString(base64.b64decode(item["data"])) for item in items]
        assert {item.metadata["encoding"] for item in decoded} == {b"json/plain"}


async def _read(client: Client, topic: str | None) -> list[tuple[int, Any]]:
    subscription = WorkflowStreamClient.create(client, "w").subscribe(topic, poll_cooldown=QUICKLY)
    return [(item.offset, item.data) async for item in subscription]


def test_readers_of_several_runs_get_everything_once_and_the_runs_replay() -> None:
    """One reads while it comes, one a topic, one when all is over; nobody without the codec could read any of it."""

    async def scenario() -> None:
        async with (
            asyncio.timeout(LIMIT_S),
            await WorkflowEnvironment.start_local(data_converter=CONVERTER) as env,
            Worker(env.client, task_queue=QUEUE, workflows=[Talking], activities=[publish_words]),
        ):
            client = env.client
            first = await client.start_workflow(Talking.run, args=[3, None], id="w", task_queue=QUEUE)
            whole, own = await asyncio.gather(_read(client, None), _read(client, "own"))
            expected: list[Any] = []
            for run in (3, 2, 1):
                expected += [{"text": TEXT, "number": run * 10 + index} for index in range(10)]
                expected += [run]
            assert whole == list(enumerate(expected))
            assert own == [(10, 3), (21, 2), (32, 1)]
            assert await _read(client, None) == whole

            histories = [
                await client.get_workflow_handle("w", run_id=run_id).fetch_history()
                for run_id in (first.first_execution_run_id, None)
            ]
            for history in histories:
                await _is_encoded_once(history)
                await Replayer(workflows=[Talking], data_converter=CONVERTER).replay_workflow(history)

    asyncio.run(scenario())
