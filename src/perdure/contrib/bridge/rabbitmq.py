"""RabbitMQ: a queue, its unacknowledged deliveries, and a queue of messages that were set aside.

May live here: what a bridge needs of RabbitMQ. May not: workflows. Needs the extra `perdure[rabbitmq]`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

try:
    import aio_pika
    import aio_pika.abc
    import aio_pika.exceptions
    from aiormq.exceptions import ChannelAccessRefused
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "perdure.contrib.bridge.rabbitmq needs aio-pika: pip install 'perdure[rabbitmq]'", name=error.name
    ) from error

from perdure.contrib.bridge._messages import Message
from perdure.contrib.bridge._source import Delivery, SourceDownError

IDLE_S: Final = 1.0
"""How long one call of `take` waits."""

LOOK_EVERY_S: Final = 10.0
"""How often an idle source looks whether the queue is still there: nobody says when it is deleted."""

ANSWER_TIMEOUT_S: Final = 10.0

_COUNT: Final = "x-delivery-count"
"""The header in which a quorum queue says how often it delivered a message before."""

_DOWN: Final = (aio_pika.exceptions.AMQPError, aio_pika.exceptions.ChannelInvalidStateError, OSError)
_RIGHTS: Final = (
    aio_pika.exceptions.AuthenticationError,
    aio_pika.exceptions.ProbableAuthenticationError,
    aio_pika.exceptions.IncompatibleProtocolError,
    aio_pika.exceptions.ChannelPreconditionFailed,
    ChannelAccessRefused,
)
"""Mistakes of the set-up, if they come at the first time; a broker that is just ending may say the same."""


class RabbitQueue:
    """A queue of RabbitMQ, for `Bridge`.

    The message's id is its property `message_id`, which the producer has to set.

    Args:
        url: Of the broker, such as `amqp://user:password@host:5672/vhost`, or `amqps://` with TLS.
        queue: Its name; a quorum queue is made if it does not exist, and it is taken as it is if it does. Only quorum
            queues count deliveries: `max_deliveries` of the bridge is nothing to others.
        dead_queue: Where poison goes; by default `<queue>.dead`; a durable queue is made if it does not exist.
        name: Part of the ids of workflows and requests; by default the queue's.
    """

    keep_every_s = None

    def __init__(
        self, url: str, queue: str, *, dead_queue: str | None = None, name: str | None = None
    ) -> None:
        self.name = name or queue
        self.dead_queue = dead_queue or f"{queue}.dead"
        self._url = url
        self._queue_name = queue
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._channel: aio_pika.abc.AbstractChannel | None = None
        self._queue: aio_pika.abc.AbstractQueue | None = None
        self._was_open = False
        self._arrived: deque[aio_pika.abc.AbstractIncomingMessage] = deque()
        self._has_arrived = asyncio.Event()
        self._next_look_s = 0.0

    async def open(self, limit: int) -> None:
        """Connect, declare what is missing, and let the broker send at most `limit` messages in advance."""
        self._arrived.clear()
        async with self._translated():
            self._connection = await aio_pika.connect(self._url, timeout=ANSWER_TIMEOUT_S)
            await self._declare(self.dead_queue)
            await self._declare(self._queue_name, {"x-queue-type": "quorum"})
            self._channel = await self._connection.channel(on_return_raises=True)
            await self._channel.set_qos(prefetch_count=limit)
            self._queue = await self._channel.get_queue(self._queue_name, ensure=True)
        self._was_open = True
        self._next_look_s = asyncio.get_running_loop().time() + LOOK_EVERY_S

    async def _declare(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """A queue that exists keeps whatever arguments it has: declaring it with others would be refused."""
        if self._connection is None:
            raise SourceDownError("not connected")
        try:
            async with self._connection.channel() as channel:
                await channel.declare_queue(name, passive=True, timeout=ANSWER_TIMEOUT_S)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            async with self._connection.channel() as channel:
                await channel.declare_queue(name, durable=True, arguments=arguments, timeout=ANSWER_TIMEOUT_S)

    async def _arrive(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        """Called for each message, at most as many as may be unacknowledged."""
        self._arrived.append(message)
        self._has_arrived.set()

    async def take(self, limit: int) -> Sequence[Delivery]:
        """What has arrived, or what arrives within a second."""
        channel = self._opened()
        if self._queue is not None:
            if (first := await self._first(self._queue)) is not None:
                return [self._delivery(first)]
        if not self._arrived:
            await self._wait(channel)
        return [self._delivery(self._arrived.popleft()) for _ in range(min(limit, len(self._arrived)))]

    async def _first(self, queue: aio_pika.abc.AbstractQueue) -> aio_pika.abc.AbstractIncomingMessage | None:
        """What comes again comes first and is fetched one by one; then messages are sent here in advance.

        What is here beside a message that ends the process would be counted as delivered, too.
        """
        async with self._translated():
            message = await queue.get(fail=False, timeout=ANSWER_TIMEOUT_S)
            if message is None or not message.redelivered:
                self._queue = None
                await queue.consume(self._arrive, timeout=ANSWER_TIMEOUT_S)
        return message

    async def _wait(self, channel: aio_pika.abc.AbstractChannel) -> None:
        loop = asyncio.get_running_loop()
        self._has_arrived.clear()
        arriving = asyncio.ensure_future(self._has_arrived.wait())
        closing = asyncio.ensure_future(channel.closed())
        try:
            await asyncio.wait({arriving, closing}, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            arriving.cancel()
        if closing.done() and not closing.cancelled():
            raise SourceDownError("the broker closed the channel")
        if not self._arrived and loop.time() >= self._next_look_s:
            self._next_look_s = loop.time() + LOOK_EVERY_S
            async with self._translated():
                await channel.declare_queue(self._queue_name, passive=True, timeout=ANSWER_TIMEOUT_S)

    def _delivery(self, message: aio_pika.abc.AbstractIncomingMessage) -> Delivery:
        sent_at, before = message.timestamp, message.headers.get(_COUNT, 0)
        return Delivery(
            Message(
                id=message.message_id or "",
                body=message.body,
                headers={key: _text(value) for key, value in message.headers.items()},
                source=self.name,
                sent_at=sent_at if sent_at is None or sent_at.tzinfo else sent_at.replace(tzinfo=UTC),
                redelivered=bool(message.redelivered),
                deliveries=before + 1 if isinstance(before, int) else 1,
            ),
            message,
        )

    async def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge the delivery."""
        async with self._translated():
            await delivery.receipt.ack()

    async def set_aside(self, delivery: Delivery, reason: str) -> None:
        """Publish a copy to the dead queue, and acknowledge once the broker has confirmed it."""
        channel = self._opened()
        message: aio_pika.abc.AbstractIncomingMessage = delivery.receipt
        copy = aio_pika.Message(
            message.body,
            headers={
                **{key: value for key, value in message.headers.items() if key != _COUNT},
                "perdure-reason": reason,
                "perdure-queue": self._queue_name,
                "perdure-message-id": delivery.message.id,
            },
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            correlation_id=message.correlation_id,
            message_id=message.message_id,
            timestamp=message.timestamp or datetime.now(UTC),
            type=message.type,
            app_id=message.app_id,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        async with self._translated():
            await channel.default_exchange.publish(
                copy, routing_key=self.dead_queue, timeout=ANSWER_TIMEOUT_S
            )
            await message.ack()

    async def give_back(self, delivery: Delivery) -> None:
        """Let the broker requeue it."""
        async with self._translated():
            await delivery.receipt.nack(requeue=True)

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing: unacknowledged deliveries are this channel's as long as it is open."""

    async def close(self) -> None:
        """Close the connection; the broker requeues what was not acknowledged."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(*_DOWN):
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    await connection.close()

    def _opened(self) -> aio_pika.abc.AbstractChannel:
        channel = self._channel
        if channel is None or channel.is_closed:
            raise SourceDownError("the channel is closed")
        return channel

    @contextlib.asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except _DOWN as error:
            if isinstance(error, _RIGHTS) and not self._was_open:
                raise
            raise SourceDownError(f"{type(error).__name__}: {error}") from error


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
