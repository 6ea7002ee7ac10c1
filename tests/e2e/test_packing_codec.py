"""A codec that puts several payloads into one: whoever is called with several arguments gets them all."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RawValue
from perdure.converter import DataConverter
from perdure.worker import Worker
from tests.unit.sdk_data.drivers import WrappingCodec

CONVERTER = dataclasses.replace(DataConverter.default, payload_codec=WrappingCodec())
TIMEOUT = timedelta(seconds=30)


@activity.defn
async def add(first: int, second: int) -> int:
    """Two arguments by name."""
    return first + second


@activity.defn(dynamic=True)
async def count(args: Sequence[RawValue]) -> int:
    """However many there are."""
    return len(args)


@workflow.defn
class Adding:
    @workflow.init
    def __init__(self, first: int, second: int) -> None:
        self.more: list[int] = []

    @workflow.run
    async def run(self, first: int, second: int) -> list[int]:
        await workflow.wait_condition(lambda: bool(self.more))
        return [
            *self.more,
            await workflow.execute_activity(add, args=[first, second], start_to_close_timeout=TIMEOUT),
            await workflow.execute_local_activity(add, args=[first, second], start_to_close_timeout=TIMEOUT),
            await workflow.execute_activity("unknown", args=[1, 2, 3], start_to_close_timeout=TIMEOUT),
        ]

    @workflow.signal
    def give(self, first: int, second: int) -> None:
        self.more.append(first + second)

    @workflow.update
    def ask(self, first: int, second: int) -> int:
        return first + second

    @workflow.query
    def look(self, first: int, second: int) -> int:
        return first + second


def test_several_arguments_arrive_although_one_payload_carries_them() -> None:
    async def scenario() -> None:
        client = await Client.connect("sqlite://", data_converter=CONVERTER)
        async with Worker(client, task_queue="q", workflows=[Adding], activities=[add, count]):
            handle = await client.start_workflow(Adding.run, args=[1, 2], id="adding", task_queue="q")
            assert await handle.query(Adding.look, args=[3, 4]) == 7
            assert await handle.execute_update(Adding.ask, args=[5, 6]) == 11
            await handle.signal(Adding.give, args=[7, 8])
            assert await handle.result() == [15, 3, 3, 3]
        await client.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
