"""The same job done by a plain consumer: one message at a time, acknowledged before or after its work.

May live here: consumers as one would write them by hand, with `meet` at the points between their steps. May not: more
care than that.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any

import aio_pika
import aiobotocore.session
import redis.asyncio
import redis.exceptions

from examples.queues.brokers import Broker, RabbitMQ, Redis, Sqs
from examples.queues.orders import Ledger

Received = tuple[str, Callable[[], Awaitable[Any]]]
"""A body, and how to acknowledge the message."""


async def consume(broker: Broker, queue: str, ledger: Ledger, way: str, meet: Callable[[str], None]) -> None:
    """Charge the orders of a queue until it is empty.

    Args:
        broker: Where the queue is.
        queue: Its name.
        ledger: What is charged to.
        way: `acknowledge-first` or `acknowledge-last`.
        meet: Called between the steps; may end the process.
    """
    async with contextlib.aclosing(_received(broker, queue)) as messages:
        async for body, acknowledge in messages:
            meet("taken")
            if way == "acknowledge-first":
                await acknowledge()
                meet("acknowledged")
            ledger.charge(json.loads(body)["order"])
            meet("charged")
            if way == "acknowledge-last":
                await acknowledge()
                meet("acknowledged")


def _received(broker: Broker, queue: str) -> AsyncGenerator[Received, None]:
    if isinstance(broker, Redis):
        return _from_redis(broker, queue)
    if isinstance(broker, RabbitMQ):
        return _from_rabbitmq(broker, queue)
    if isinstance(broker, Sqs):
        return _from_sqs(broker, queue)
    raise TypeError(f"no plain consumer for {broker}")


async def _from_redis(broker: Redis, queue: str) -> AsyncGenerator[Received, None]:
    """A consumer group with one consumer, which first gets what it had not acknowledged when it died."""
    client: Any = redis.asyncio.Redis.from_url(broker.url, protocol=2)
    with contextlib.suppress(redis.exceptions.ResponseError):
        await client.xgroup_create(queue, "plain", id="0", mkstream=True)
    for after in ("0", ">"):
        while answer := await client.xreadgroup("plain", "one", {queue: after}, count=1, block=200):
            ((_, entries),) = answer
            if not entries:
                break
            for entry, fields in entries:
                yield fields[b"body"].decode(), partial(client.xack, queue, "plain", entry)
    await client.aclose()


async def _from_rabbitmq(broker: RabbitMQ, queue: str) -> AsyncGenerator[Received, None]:
    async with await aio_pika.connect(broker.url) as connection, connection.channel() as channel:
        declared = await channel.get_queue(queue)
        while (message := await declared.get(fail=False)) is not None:
            yield message.body.decode(), message.ack


async def _from_sqs(broker: Sqs, queue: str) -> AsyncGenerator[Received, None]:
    url = broker.url(queue)
    async with aiobotocore.session.get_session().create_client("sqs", **broker.options) as client:
        while True:
            answer = await client.receive_message(QueueUrl=url, VisibilityTimeout=1, WaitTimeSeconds=0)
            if not answer.get("Messages"):
                return
            (message,) = answer["Messages"]
            delete = partial(client.delete_message, QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            yield message["Body"], delete
