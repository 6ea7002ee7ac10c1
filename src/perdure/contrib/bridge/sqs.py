"""Amazon SQS: a queue, its messages in flight, and a queue of messages that were set aside.

May live here: what a bridge needs of SQS. May not: workflows. Needs the extra `perdure[sqs]`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

try:
    import aiobotocore.config
    import aiobotocore.session
    import botocore.exceptions
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "perdure.contrib.bridge.sqs needs aiobotocore: pip install 'perdure[sqs]'", name=error.name
    ) from error

from perdure.contrib.bridge._messages import Message
from perdure.contrib.bridge._source import Delivery, SourceDownError

MOST_AT_A_TIME: Final = 10
"""Messages in one call of SQS."""

ATTRIBUTES_LIMIT: Final = 10
"""Message attributes that SQS takes."""

REASON_LIMIT: Final = 1000
"""Characters of a reason: attributes count towards the size of a message."""

_CONNECT_TIMEOUT_S: Final = 5
_ANSWER_TIMEOUT_S: Final = 10

_DOWN: Final = (
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    OSError,
)
_DOWN_CODES: Final = frozenset(
    {
        "RequestThrottled",
        "ThrottlingException",
        "Throttling",
        "ServiceUnavailable",
        "InternalFailure",
        "InternalError",
    }
)
_NO_LONGER_OURS: Final = frozenset(
    {
        "MessageNotInflight",
        "AWS.SimpleQueueService.MessageNotInflight",
        "InvalidParameterValue",
        "ReceiptHandleIsInvalid",
    }
)
"""Answers about a message whose time in flight is over: somebody else has it, or had it."""

_FIRST_SERVER_ERROR: Final = 500


class SqsQueue:
    """A queue of SQS, standard or FIFO, for `Bridge`.

    The message's id is the deduplication id of a FIFO queue's message, otherwise the id that SQS gave it.

    Args:
        queue_url: Of the queue.
        dead_queue_url: Where poison goes; FIFO if the queue is.
        visibility_timeout_s: After how long messages of a bridge that died come to another, whole seconds.
        wait_s: How long one call waits for messages, whole seconds; SQS takes at most 20.
        client_options: For `create_client` of aiobotocore, such as `region_name` or `endpoint_url`.
        name: Part of the ids of workflows and requests; by default the last part of `queue_url`.
    """

    def __init__(
        self,
        queue_url: str,
        dead_queue_url: str,
        *,
        visibility_timeout_s: int = 30,
        wait_s: int = 20,
        client_options: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name or queue_url.rstrip("/").rsplit("/", 1)[-1]
        self.keep_every_s = visibility_timeout_s / 3
        self._queue_url = queue_url
        self._dead_queue_url = dead_queue_url
        self._visibility_timeout_s = visibility_timeout_s
        self._wait_s = wait_s
        self._client_options = dict(client_options or {})
        # Loading what SQS looks like takes long, and a session does it once.
        self._session = aiobotocore.session.get_session()
        self._stack = contextlib.AsyncExitStack()
        self._client: Any = None

    async def open(self, limit: int) -> None:
        """Make a client, and see that both queues are there."""
        given = self._client_options.get("config")
        config = aiobotocore.config.AioConfig(
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=self._wait_s + _ANSWER_TIMEOUT_S,
            retries={"total_max_attempts": 1},
            # One call that waits for messages, and one for each message in the works.
            max_pool_connections=limit + 2,
        )
        options = {**self._client_options, "config": config.merge(given) if given else config}
        async with _translated():
            creating = self._session.create_client("sqs", **options)
            self._client = await self._stack.enter_async_context(creating)
            for url in (self._queue_url, self._dead_queue_url):
                await self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])

    async def take(self, limit: int) -> Sequence[Delivery]:
        """Ask once for messages, waiting for them on the side of SQS."""
        async with _translated():
            answer = await self._client.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=min(limit, MOST_AT_A_TIME),
                VisibilityTimeout=self._visibility_timeout_s,
                WaitTimeSeconds=self._wait_s,
                AttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
        return [self._delivery(raw) for raw in answer.get("Messages", ())]

    def _delivery(self, raw: Mapping[str, Any]) -> Delivery:
        known = raw.get("Attributes", {})
        headers = {
            name: value["StringValue"]
            for name, value in raw.get("MessageAttributes", {}).items()
            if "StringValue" in value
        }
        deliveries = int(known.get("ApproximateReceiveCount", 1))
        sent_ms = known.get("SentTimestamp")
        message = Message(
            id=known.get("MessageDeduplicationId") or raw["MessageId"],
            body=raw["Body"].encode(),
            headers=headers,
            source=self.name,
            sent_at=datetime.fromtimestamp(int(sent_ms) / 1000, UTC) if sent_ms else None,
            redelivered=deliveries > 1,
            deliveries=deliveries,
        )
        return Delivery(message, raw)

    async def acknowledge(self, delivery: Delivery) -> None:
        """Delete the message."""
        async with _translated(ignored=_NO_LONGER_OURS):
            await self._client.delete_message(
                QueueUrl=self._queue_url, ReceiptHandle=delivery.receipt["ReceiptHandle"]
            )

    async def set_aside(self, delivery: Delivery, reason: str) -> None:
        """Send a copy to the dead queue, then delete the message."""
        raw = delivery.receipt
        ours = {
            "perdure-reason": reason[:REASON_LIMIT] or "?",
            "perdure-message-id": delivery.message.id or raw["MessageId"],
        }
        theirs = list(raw.get("MessageAttributes", {}).items())[: ATTRIBUTES_LIMIT - len(ours)]
        request: dict[str, Any] = {
            "QueueUrl": self._dead_queue_url,
            "MessageBody": raw["Body"],
            "MessageAttributes": {
                **dict(theirs),
                **{key: {"DataType": "String", "StringValue": value} for key, value in ours.items()},
            },
        }
        if self._dead_queue_url.endswith(".fifo"):
            request["MessageGroupId"] = raw.get("Attributes", {}).get("MessageGroupId", self.name)
            request["MessageDeduplicationId"] = raw["MessageId"]
        async with _translated():
            await self._client.send_message(**request)
        await self.acknowledge(delivery)

    async def give_back(self, delivery: Delivery) -> None:
        """Make the message visible at once."""
        await self._change_visibility(delivery, 0)

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Keep the messages invisible for a while longer."""
        for delivery in deliveries:
            await self._change_visibility(delivery, self._visibility_timeout_s)

    async def _change_visibility(self, delivery: Delivery, timeout_s: int) -> None:
        async with _translated(ignored=_NO_LONGER_OURS):
            await self._client.change_message_visibility(
                QueueUrl=self._queue_url,
                ReceiptHandle=delivery.receipt["ReceiptHandle"],
                VisibilityTimeout=timeout_s,
            )

    async def close(self) -> None:
        """Close the client."""
        self._client = None
        with contextlib.suppress(*_DOWN):
            await self._stack.aclose()


@contextlib.asynccontextmanager
async def _translated(ignored: frozenset[str] = frozenset()) -> AsyncIterator[None]:
    try:
        yield
    except botocore.exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in ignored:
            return
        if code in _DOWN_CODES or status >= _FIRST_SERVER_ERROR:
            raise SourceDownError(str(error)) from error
        raise
    except _DOWN as error:
        raise SourceDownError(f"{type(error).__name__}: {error}") from error
