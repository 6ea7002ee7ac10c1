"""The stream inside a workflow: a list that signals append to and updates read.

Here: log, offsets, publishers, what goes to the next run. All of it follows from the history. Not here: the other side.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn, TypeVar, overload

from google.protobuf.message import DecodeError

from perdure import workflow
from perdure.api.common.v1 import Payload
from perdure.contrib.workflow_streams._topic_handle import TopicTypes, WorkflowTopicHandle
from perdure.contrib.workflow_streams._types import (
    MAX_MESSAGE_BYTES,
    OFFSET_QUERY,
    POLL,
    PUBLISH_SIGNAL,
    STREAM_DRAINING,
    TRUNCATE_OUT_OF_RANGE,
    TRUNCATED_OFFSET,
    PollInput,
    PollResult,
    PublishEntry,
    PublisherState,
    PublishInput,
    WireItem,
    WorkflowStreamState,
    _decode_payload,
    _encode_payload,
    item_bytes,
)
from perdure.exceptions import ApplicationError

T = TypeVar("T")

_PUBLISHER_TTL = timedelta(minutes=15)


class WorkflowStream:
    """The stream of a workflow. Make it in the workflow's `__init__`, once.

    It adds handlers to the workflow: the signal that publishes, the update that waits for items, the query for those
    that there are, and that for the next offset. In the workflow task that it is made in, signals for it may be handled
    after those of methods of the class: a handler that looks at the stream is best `async`, and begins with
    `await asyncio.sleep(0)`.

    What is left when the workflow ends can be read while the server keeps its history and a worker answers queries.

    Args:
        prior_state: The stream of the run before, from `get_state` through continue-as-new.
        max_log_bytes: About how much the log may hold; what goes beyond drops the oldest items. None: no limit, as in
            Temporal's module. What continue-as-new carries must stay below the server's limit of 2 MB.

    Raises:
        RuntimeError: Not called from an `__init__`, or the workflow has a stream.
        TypeError: The prior state is something else, such as the dict that an unannotated field receives.
        ValueError: The limit is not positive.
    """

    def __init__(
        self, prior_state: WorkflowStreamState | None = None, *, max_log_bytes: int | None = None
    ) -> None:
        caller = sys._getframe(1).f_code.co_name
        if caller != "__init__":
            raise RuntimeError(
                "WorkflowStream must be constructed directly from the workflow's __init__, "
                f"before the first message comes, and not from {caller!r}."
            )
        if workflow.get_signal_handler(PUBLISH_SIGNAL) is not None:
            raise RuntimeError("A WorkflowStream is already registered on this workflow: one is enough.")
        if prior_state is not None and not isinstance(prior_state, WorkflowStreamState):
            raise TypeError(
                f"prior_state is a {type(prior_state).__name__}: annotate its field with `WorkflowStreamState | None`."
            )
        if max_log_bytes is not None and max_log_bytes <= 0:
            raise ValueError("max_log_bytes must be positive")
        prior = prior_state or WorkflowStreamState()
        self._log: list[PublishEntry] = []
        self._base_offset = prior.base_offset
        self._publishers = dict(prior.publishers)
        self._newest: dict[str, int] = {}
        """The highest offset of each topic that has items in the log."""
        self._log_bytes = 0
        self._max_log_bytes = max_log_bytes
        self._detaching = False
        self._topic_types = TopicTypes()
        for item in prior.log:
            self._append(item.topic, item.data)

        workflow.set_signal_handler(PUBLISH_SIGNAL, self._on_publish)
        workflow.set_update_handler(POLL, self._on_poll, validator=self._validate_poll)
        workflow.set_query_handler(POLL, self._page)
        workflow.set_query_handler(OFFSET_QUERY, self._on_offset)

    @overload
    def topic(self, name: str) -> WorkflowTopicHandle[Any]: ...

    @overload
    def topic(self, name: str, *, type: type[T]) -> WorkflowTopicHandle[T]: ...

    def topic(self, name: str, *, type: Any = None) -> WorkflowTopicHandle[Any]:
        """Return a handle to publish with.

        Args:
            name: The topic.
            type: Type of its values, the same wherever this stream's topic is asked for. None: anything.

        Raises:
            RuntimeError: The topic has another type here, or the type is `Payload`.
        """
        return WorkflowTopicHandle(self, name, self._topic_types.bind(name, type))

    def get_state(self, *, publisher_ttl: timedelta = _PUBLISHER_TTL) -> WorkflowStreamState:
        """Return what the next run needs as `prior_state`.

        Args:
            publisher_ttl: Forget publishers that have been quiet for so long. It must be longer than any publisher's
                `max_retry_duration`, or what that one repeats is taken for new.
        """
        now = workflow.now()
        return WorkflowStreamState(
            log=[WireItem(entry.topic, entry.data) for entry in self._log],
            base_offset=self._base_offset,
            publishers={
                key: publisher
                for key, publisher in self._publishers.items()
                if now - publisher.last_seen < publisher_ttl
            },
        )

    def detach_pollers(self) -> None:
        """Answer the readers that wait and refuse others, who then try again until the next run is there.

        Publishing goes on. Before continue-as-new, wait for `workflow.all_handlers_finished` afterwards.
        """
        self._detaching = True

    async def continue_as_new(
        self,
        build_args: Callable[[WorkflowStreamState], Sequence[Any]],
        *,
        publisher_ttl: timedelta = _PUBLISHER_TTL,
    ) -> NoReturn:
        """Detach the readers, wait for the handlers, and go on as a new run; it does not return.

        For other options of the new run, do the same by hand: `detach_pollers`, wait, `workflow.continue_as_new`.

        Args:
            build_args: Makes the arguments of the new run of the stream's state, when all handlers are done.
            publisher_ttl: See `get_state`.
        """
        self.detach_pollers()
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(args=build_args(self.get_state(publisher_ttl=publisher_ttl)))

    def truncate(self, up_to_offset: int) -> None:
        """Forget the items before an offset. Offsets of others stay what they are.

        Args:
            up_to_offset: The first offset that is kept; nothing happens if all before it are gone.

        Raises:
            ApplicationError: The offset is beyond the end (type `TruncateOutOfRange`).
        """
        if up_to_offset > self._end():
            raise ApplicationError(
                f"Cannot truncate to offset {up_to_offset}: the stream has [{self._base_offset}, {self._end()}).",
                type=TRUNCATE_OUT_OF_RANGE,
            )
        self._drop(max(up_to_offset - self._base_offset, 0))

    def _end(self) -> int:
        return self._base_offset + len(self._log)

    def _drop(self, count: int) -> None:
        self._base_offset += count
        for entry in self._log[:count]:
            self._log_bytes -= item_bytes(entry.topic, entry.data)
            if self._newest.get(entry.topic, self._base_offset) < self._base_offset:
                del self._newest[entry.topic]
        del self._log[:count]

    def _append(self, topic: str, data: str) -> None:
        self._newest[topic] = self._end()
        self._log.append(PublishEntry(topic, data))
        self._log_bytes += item_bytes(topic, data)
        if self._max_log_bytes is None or self._log_bytes <= self._max_log_bytes:
            return
        excess, count = self._log_bytes - self._max_log_bytes, 0
        # The newest item stays, however large it is.
        while excess > 0 and count < len(self._log) - 1:
            excess -= item_bytes(self._log[count].topic, self._log[count].data)
            count += 1
        self._drop(count)

    def _publish_to_topic(self, topic: str, value: Any) -> None:
        payload = (
            value if isinstance(value, Payload) else workflow.payload_converter().to_payloads([value])[0]
        )
        self._append(topic, _encode_payload(payload))

    def _on_publish(self, batch: PublishInput) -> None:
        known = self._publishers.get(batch.publisher_id)
        if batch.publisher_id and known is not None and batch.sequence <= known.sequence:
            return
        try:
            for entry in batch.items:
                _decode_payload(entry.data)
        except (ValueError, DecodeError) as error:
            # One that stayed in the log would stop every reader.
            workflow.logger.warning("Workflow stream: dropped a batch whose items are no payloads: %s", error)
            return
        if batch.publisher_id:
            self._publishers[batch.publisher_id] = PublisherState(batch.sequence, workflow.now())
        for entry in batch.items:
            self._append(entry.topic, entry.data)

    def _validate_poll(self, poll: PollInput) -> None:
        if self._detaching:
            raise ApplicationError("The stream moves to the workflow's next run.", type=STREAM_DRAINING)

    async def _on_poll(self, poll: PollInput) -> PollResult:
        await workflow.wait_condition(
            lambda: self._detaching or poll.from_offset < self._base_offset or self._has_items(poll)
        )
        if poll.from_offset < self._base_offset and poll.from_offset != 0:
            raise ApplicationError(
                f"Offset {poll.from_offset} is no longer there: the stream begins at {self._base_offset}.",
                type=TRUNCATED_OFFSET,
            )
        return self._page(poll)

    def _has_items(self, poll: PollInput) -> bool:
        if not poll.topics:
            return poll.from_offset < self._end()
        return any(self._newest.get(topic, -1) >= poll.from_offset for topic in poll.topics)

    def _page(self, poll: PollInput) -> PollResult:
        """What there is from the offset on, or from the oldest item."""
        begin, topics = max(poll.from_offset, self._base_offset), frozenset(poll.topics)
        page = PollResult(next_offset=max(begin, self._end()))
        room = MAX_MESSAGE_BYTES
        for offset in range(begin, self._end()):
            entry = self._log[offset - self._base_offset]
            if topics and entry.topic not in topics:
                continue
            room -= item_bytes(entry.topic, entry.data)
            if room < 0 and page.items:
                page.next_offset, page.more_ready = offset, True
                break
            page.items.append(WireItem(entry.topic, entry.data, offset))
        return page

    def _on_offset(self) -> int:
        return self._end()
