"""Publishers and the workflows of streams, killed under load: readers get each item once, in order."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from perdure.client import Client, WorkflowHandle
from perdure.contrib.workflow_streams import WorkflowStreamClient, WorkflowStreamItem
from perdure.worker import Replayer
from tests.e2e.python_sdk import unique
from tests.e2e.sdk_crashes.processes import KILLS, process_until_killed, read_lines
from tests.e2e.sdk_crashes.stream_load import (
    ITEMS,
    PARALLEL,
    ROUNDS,
    Talkative,
    activity_name,
    new_worker,
    start,
)
from tests.support.servers import PerdureServer

pytestmark = pytest.mark.serial

PER_KILL: Final = 2
"""So many workflows are added for each process that is killed, and as many again when they are at their end."""
LINES: Final = (1, 8)
"""A process is killed after it began so many activities."""
BOUND_S: Final = 40.0 + 10.0 * KILLS

Items = list[WorkflowStreamItem[Any]]


async def _all_items(client: Client, workflow_id: str) -> Items:
    """What a reader gets, to the end of the workflow."""
    subscription = WorkflowStreamClient.create(client, workflow_id).subscribe(
        allow_gaps=False, poll_cooldown=timedelta(milliseconds=20)
    )
    return [item async for item in subscription]


def check_items(items: Items) -> None:
    """Offsets without gaps; of each speaker 0, 1, 2...; the attempts that counted are whole, and all rounds there."""
    assert [item.offset for item in items] == list(range(len(items)))
    numbers = defaultdict(list)
    for item in items:
        if item.topic != "own":
            numbers[item.data["speaker"]].append(item.data["number"])
    for speaker, spoken in numbers.items():
        assert spoken == list(range(len(spoken))), (speaker, spoken)

    own = [item.data for item in items if item.topic == "own"]
    counted = [text for text in own if not text.startswith("begin")]
    attempts = [int(text.rpartition(" ")[2]) for text in counted]
    branches = [(number, branch) for number in range(ROUNDS) for branch in range(PARALLEL)]
    assert counted == [
        activity_name(*each, attempt) for each, attempt in zip(branches, attempts, strict=True)
    ]
    assert own[:: PARALLEL + 1] == [f"begin {number}" for number in range(ROUNDS)]
    assert {text: len(numbers[text]) for text in counted} == dict.fromkeys(counted, ITEMS)


def test_readers_of_streams_whose_publishers_are_killed_get_each_item_once_and_in_order(
    tmp_path: Path,
) -> None:
    """Attempts of activities, workflow code and publishers outside die with their process; the readers do not."""

    async def scenario() -> None:
        choices = random.Random(f"streams {KILLS}")
        queue = unique("streams")
        async with (
            PerdureServer(db_path=tmp_path / "server.db") as server,
            await Client.connect(server.address) as client,
            asyncio.TaskGroup() as readers,
        ):
            reading: dict[str, asyncio.Task[Items]] = {}
            handles: list[WorkflowHandle[Any, Any]] = []

            async def add() -> list[str]:
                ids = [f"{queue}-{len(reading) + index}" for index in range(PER_KILL)]
                for each in ids:
                    handles.append(await start(client, each, queue))
                    reading[each] = readers.create_task(_all_items(client, each))
                return ids

            for kill in range(KILLS):
                added = await add()
                process = process_until_killed("stream_load", server.address, queue, f"life {kill}", *added)
                async with process as output:
                    assert await read_lines(output, 1) == ["ready"]
                    lines = asyncio.create_task(read_lines(output, choices.randint(*LINES)))
                    while not (await asyncio.wait([lines], timeout=2.0))[0]:
                        await add()
                    await lines
            async with new_worker(client, queue):
                for handle in handles:
                    items = await reading[handle.id]
                    check_items(items)
                    assert await _all_items(client, handle.id) == items
                    for run_id in (handle.first_execution_run_id, None):
                        run = client.get_workflow_handle(handle.id, run_id=run_id)
                        await Replayer(workflows=[Talkative]).replay_workflow(await run.fetch_history())
            counts = [len(task.result()) for task in reading.values()]
            repeated = sum(
                1
                for task in reading.values()
                for speaker in {item.data["speaker"] for item in task.result() if item.topic == "activities"}
                if not speaker.endswith(" 1")
            )
        print(f"{counts} items, {KILLS} processes killed, {repeated} attempts repeated")

    asyncio.run(asyncio.wait_for(scenario(), BOUND_S))


def test_the_check_of_items_can_fail() -> None:
    """An item that comes twice, is missing, or changes its place is found."""
    texts: list[tuple[str, Any]] = []
    for begun in range(ROUNDS):
        texts.append(("own", f"begin {begun}"))
        names = [activity_name(begun, branch, 2) for branch in range(PARALLEL)]
        texts += [
            ("activities", {"speaker": name, "number": number}) for name in names for number in range(ITEMS)
        ]
        texts += [("own", name) for name in names]

    def items(pairs: list[tuple[str, Any]]) -> Items:
        return [WorkflowStreamItem(topic, data, offset) for offset, (topic, data) in enumerate(pairs)]

    check_items(items(texts))
    changed = [
        texts[:3] + texts[2:],
        texts[:3] + texts[4:],
        [*texts[:2], texts[3], texts[2], *texts[4:]],
        texts[:1] + texts,
        texts[:ITEMS] + texts[ITEMS + 1 :],
    ]
    for wrong in changed:
        with pytest.raises(AssertionError):
            check_items(items(wrong))
    gap = items(texts)
    gap[-1].offset += 1
    with pytest.raises(AssertionError):
        check_items(gap)
