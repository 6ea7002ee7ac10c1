"""The other side of a stream: who publishes from outside the workflow, and who reads.

Here: batches and their repetition, subscriptions. Not here: where a page comes from (`_reader`), the workflow's side.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

from perdure import activity
from perdure.api.common.v1 import Payload
from perdure.client import Client, WorkflowHandle
from perdure.contrib.workflow_streams._reader import Reader
from perdure.contrib.workflow_streams._topic_handle import TopicHandle, TopicTypes
from perdure.contrib.workflow_streams._types import (
    MAX_MESSAGE_BYTES,
    OFFSET_QUERY,
    PUBLISH_SIGNAL,
    PollInput,
    PublishBufferFullError,
    PublishEntry,
    PublishInput,
    TruncatedOffsetError,
    WorkflowStreamItem,
    _decode_payload,
    _encode_payload,
    item_bytes,
)
from perdure.converter import DataConverter, PayloadConverter
from perdure.service import RPCError, RPCStatusCode
from perdure.service._errors import is_too_large

T = TypeVar("T")

MAX_BUFFERED_BYTES: Final = 16 << 20
"""Of items that are not sent yet."""

_BATCH_INTERVAL = timedelta(seconds=2)
_MAX_RETRY_DURATION = timedelta(minutes=10)
_POLL_COOLDOWN = timedelta(milliseconds=100)
_EXIT_RETRY_PAUSE_S = 1.0
_PASSING: Final = frozenset(
    {
        RPCStatusCode.CANCELLED,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.UNAVAILABLE,
    }
)
"""What leaving the context waits for the end of."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Batch:
    items: list[PublishEntry]
    sequence: int
    since_s: float
    """Of the monotonic clock, when it was first tried."""


def _is_refused(error: RPCError) -> bool:
    """Whether the server will never take this batch."""
    return error.status is RPCStatusCode.INVALID_ARGUMENT or is_too_large(error)


class WorkflowStreamClient:
    """Publishes to the stream of a workflow, and reads it.

    As an asynchronous context manager it sends what is published in batches, in the background; at its end all is sent,
    or an error says that something was not. Not for several event loops.

    Args:
        handle: Handle of the workflow. A handle of one run stays with that run, unless `client` is given.
        client: Its payload converter is used, and with it subscriptions follow any handle's workflow to its next run.
        batch_interval: Longest time that an item waits for others.
        max_batch_size: Send as soon as there are so many items. None: only time, and 1 MB, make a batch.
        max_retry_duration: How long a batch is tried; then it is dropped, with a TimeoutError. It must be shorter than
            the workflow's `publisher_ttl`.
    """

    def __init__(
        self,
        handle: WorkflowHandle[Any, Any],
        *,
        client: Client | None = None,
        batch_interval: timedelta = _BATCH_INTERVAL,
        max_batch_size: int | None = None,
        max_retry_duration: timedelta = _MAX_RETRY_DURATION,
    ) -> None:
        self._handle = handle
        self._client = client
        self._batch_interval_s = batch_interval.total_seconds()
        self._max_batch_size = max_batch_size
        self._max_retry_duration_s = max_retry_duration.total_seconds()
        self._topic_types = TopicTypes()
        self._buffer: list[PublishEntry] = []
        self._buffered_bytes = 0
        self._publisher_id = uuid.uuid4().hex[:16]
        self._sequence = 0
        self._pending: _Batch | None = None
        self._wake = asyncio.Event()
        self._flush_lock = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        """Why the flusher dropped a batch; raised at the end of the context."""

    @classmethod
    def create(
        cls,
        client: Client,
        workflow_id: str,
        *,
        batch_interval: timedelta = _BATCH_INTERVAL,
        max_batch_size: int | None = None,
        max_retry_duration: timedelta = _MAX_RETRY_DURATION,
    ) -> WorkflowStreamClient:
        """Make one for a workflow's id; the arguments are those of the class."""
        return cls(
            client.get_workflow_handle(workflow_id),
            client=client,
            batch_interval=batch_interval,
            max_batch_size=max_batch_size,
            max_retry_duration=max_retry_duration,
        )

    @classmethod
    def from_within_activity(
        cls,
        *,
        batch_interval: timedelta = _BATCH_INTERVAL,
        max_batch_size: int | None = None,
        max_retry_duration: timedelta = _MAX_RETRY_DURATION,
    ) -> WorkflowStreamClient:
        """Make one for the workflow whose activity runs here, which must be `async`.

        The next attempt of the activity is another publisher: what an attempt published before it failed stays.

        Raises:
            RuntimeError: No activity runs here, or no workflow started it.
        """
        workflow_id = activity.info().workflow_id
        if workflow_id is None:
            raise RuntimeError(
                "This activity has no parent workflow: use WorkflowStreamClient.create(activity.client(), workflow_id)."
            )
        return cls.create(
            activity.client(),
            workflow_id,
            batch_interval=batch_interval,
            max_batch_size=max_batch_size,
            max_retry_duration=max_retry_duration,
        )

    @overload
    def topic(self, name: str) -> TopicHandle[Any]: ...

    @overload
    def topic(self, name: str, *, type: type[T]) -> TopicHandle[T]: ...

    def topic(self, name: str, *, type: Any = None) -> TopicHandle[Any]:
        """Return a handle to publish and to read with.

        Args:
            name: The topic.
            type: Type of its values, the same wherever this client's topic is asked for. None: anything.

        Raises:
            RuntimeError: The topic has another type here, or the type is `Payload`.
        """
        return TopicHandle(self, name, self._topic_types.bind(name, type))

    async def __aenter__(self) -> Self:
        """Begin to send in the background.

        Raises:
            RuntimeError: It has begun already.
        """
        if self._flusher is not None:
            raise RuntimeError("This WorkflowStreamClient is in use as a context manager already.")
        self._flusher = asyncio.create_task(self._run_flusher())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Send what is left; for as long as a batch may be tried, or once if the block has failed.

        Raises:
            TimeoutError: A batch was dropped.
            RPCError: The server refuses a batch, or the workflow is not there.
        """
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.wait([self._flusher])
            self._flusher = None
        failure, self._failure = self._failure, None
        try:
            await self._send_rest(patient=kind is None)
        except Exception as raised:  # kept, to be raised or logged below
            failure = failure or raised
        if failure is None:
            return
        if kind is None:
            raise failure
        logger.warning("Workflow stream %r: not everything was published", self._handle.id, exc_info=failure)

    async def flush(self) -> None:
        """Send what was published, and return when the server has it.

        Raises:
            TimeoutError: A batch could not be sent within `max_retry_duration`, and is dropped. If only the answer was
                lost, the stream has it.
            RPCError: The server did not take a batch. It is tried again with the next flush, unless it is invalid.
        """
        while self._pending is not None or self._buffer:
            await self._flush()

    async def get_offset(self) -> int:
        """Return the offset that the next item will get."""
        offset: int = await self._handle.query(OFFSET_QUERY, result_type=int)
        return offset

    def _payload_converter(self) -> PayloadConverter:
        converter = DataConverter.default if self._client is None else self._client.data_converter
        return converter.payload_converter

    def _publish_to_topic(self, topic: str, value: Any, *, force_flush: bool) -> None:
        payload = value if isinstance(value, Payload) else self._payload_converter().to_payloads([value])[0]
        entry = PublishEntry(topic, _encode_payload(payload))
        size = item_bytes(topic, entry.data)
        if self._buffer and self._buffered_bytes + size > MAX_BUFFERED_BYTES:
            raise PublishBufferFullError(
                f"{self._buffered_bytes} bytes for workflow {self._handle.id!r} are not sent yet: await flush()."
            )
        self._buffer.append(entry)
        self._buffered_bytes += size
        if force_flush or (self._max_batch_size is not None and len(self._buffer) >= self._max_batch_size):
            self._wake.set()

    def _next_batch(self) -> _Batch:
        count, size = 0, 0
        for entry in self._buffer:
            entry_bytes = item_bytes(entry.topic, entry.data)
            if count and size + entry_bytes > MAX_MESSAGE_BYTES:
                break
            count, size = count + 1, size + entry_bytes
        items = self._buffer[:count]
        del self._buffer[:count]
        self._buffered_bytes -= size
        return _Batch(items, self._sequence + 1, time.monotonic())

    def _settle(self, batch: _Batch) -> None:
        """The batch is sent or dropped. Its number is used up either way: the stream may have it."""
        self._sequence = batch.sequence
        self._pending = None

    async def _flush(self) -> None:
        """Try one batch, once: the one that failed before, or the next."""
        async with self._flush_lock:
            if self._pending is None:
                if not self._buffer:
                    return
                self._pending = self._next_batch()
            elif time.monotonic() - self._pending.since_s > self._max_retry_duration_s:
                dropped = len(self._pending.items)
                self._settle(self._pending)
                raise TimeoutError(
                    f"{dropped} items could not be published within max_retry_duration and are dropped."
                )
            batch = self._pending
            try:
                await self._handle.signal(
                    PUBLISH_SIGNAL, PublishInput(batch.items, self._publisher_id, batch.sequence)
                )
            except RPCError as error:
                if _is_refused(error):
                    self._settle(batch)
                raise
            self._settle(batch)

    async def _run_flusher(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._batch_interval_s):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.flush()
            except Exception as error:  # whatever it was, later items are to be sent
                if self._pending is None:
                    self._failure = self._failure or error
                logger.warning("Workflow stream %r: could not publish: %s", self._handle.id, error)

    async def _send_rest(self, *, patient: bool) -> None:
        while self._pending is not None or self._buffer:
            try:
                await self._flush()
            except RPCError as error:
                if not patient or error.status not in _PASSING or _is_refused(error):
                    raise
                await asyncio.sleep(_EXIT_RETRY_PAUSE_S)

    @overload
    def subscribe(
        self,
        topics: str | Sequence[str] | None = ...,
        from_offset: int = ...,
        *,
        result_type: type[T],
        poll_cooldown: timedelta = ...,
        allow_gaps: bool = ...,
    ) -> AsyncIterator[WorkflowStreamItem[T]]: ...

    @overload
    def subscribe(
        self,
        topics: str | Sequence[str] | None = ...,
        from_offset: int = ...,
        *,
        result_type: None = None,
        poll_cooldown: timedelta = ...,
        allow_gaps: bool = ...,
    ) -> AsyncIterator[WorkflowStreamItem[Any]]: ...

    async def subscribe(
        self,
        topics: str | Sequence[str] | None = None,
        from_offset: int = 0,
        *,
        result_type: type | None = None,
        poll_cooldown: timedelta = _POLL_COOLDOWN,
        allow_gaps: bool = True,
    ) -> AsyncIterator[WorkflowStreamItem[Any]]:
        """Read items as they come; and, when the workflow has ended, what is left, by queries that a worker answers.

        One page is in memory; the next is asked for when it is used up. To go on later, begin with the offset after the
        last item's.

        Args:
            topics: One or several; None or none: all.
            from_offset: The first offset to read; 0: the oldest item that there is.
            result_type: Type of the values; `perdure.common.RawValue`: payloads as they are; None: what the converter
                makes of them.
            poll_cooldown: Pause after each page that was the last for now. Each page is an update: a few events of the
                workflow's history.
            allow_gaps: What to do if the stream no longer has the offset: go on with the oldest item, or raise.

        Yields:
            The items, with their offsets.

        Raises:
            TruncatedOffsetError: The offset is gone, and gaps are not allowed.
            RuntimeError: The type is `Payload`.
            WorkflowUpdateFailedError: The workflow refuses to be read, such as one that has no stream.
            WorkflowQueryFailedError: What is left of a workflow that has ended cannot be read.
            RPCError: There is no such workflow, or the server cannot be reached.
        """
        if result_type is Payload:
            raise RuntimeError(
                "No converter makes a result_type=Payload: use RawValue, whose `payload` it is, or leave it out."
            )
        names = [topics] if isinstance(topics, str) else list(topics or ())
        reader = Reader(self._handle, self._client, poll_cooldown.total_seconds(), sees_gaps=not allow_gaps)
        converter = self._payload_converter()
        offset = from_offset
        while True:
            page = await reader.page(PollInput(names, offset))
            if page is None:
                if not allow_gaps:
                    raise TruncatedOffsetError(f"Offset {offset} is no longer there.")
                offset = 0
                continue
            for item in page.items:
                value = converter.from_payload(_decode_payload(item.data), result_type)
                yield WorkflowStreamItem(item.topic, value, item.offset)
            offset = page.next_offset
            if not page.more_ready:
                if reader.has_ended:
                    return
                await asyncio.sleep(poll_cooldown.total_seconds())
