"""Topics as objects: a name and a type, so that neither has to be repeated.

Here: the handles, and that a topic has one type. Not here: how anything is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from perdure.api.common.v1 import Payload
from perdure.contrib.workflow_streams._types import WorkflowStreamItem

if TYPE_CHECKING:
    from perdure.contrib.workflow_streams._client import WorkflowStreamClient
    from perdure.contrib.workflow_streams._stream import WorkflowStream

T = TypeVar("T")


class TopicTypes:
    """The type of each topic of one stream or client; types are compared by equality alone."""

    def __init__(self) -> None:
        self._types: dict[str, Any] = {}

    def bind(self, name: str, bound: Any) -> Any:
        """Return the type of a topic: `bound`, where None means anything.

        Raises:
            RuntimeError: The topic has another type here, or the type is `Payload`.
        """
        bound = Any if bound is None else bound
        if bound is Payload:
            raise RuntimeError(
                "A topic cannot have type=Payload, which no converter makes. Leave the type out: a Payload can be "
                "published to any topic, and WorkflowStreamClient.subscribe gets it with result_type=RawValue."
            )
        known = self._types.setdefault(name, bound)
        if known != bound:
            raise RuntimeError(
                f"Topic {name!r} is already bound to type {known!r} here, and not to {bound!r}. "
                "Leave the type out where a topic has values of several types."
            )
        return bound


class _Topic(Generic[T]):
    """What is the same on either side of a stream: a name and the type of the values."""

    def __init__(self, name: str, type: type[T]) -> None:
        self._name = name
        self._type = type

    @property
    def name(self) -> str:
        """The topic."""
        return self._name

    @property
    def type(self) -> type[T]:
        """Type of its values."""
        return self._type


class TopicHandle(_Topic[T]):
    """A topic to publish to and to read. Made by `WorkflowStreamClient.topic`.

    Args:
        client: The client that sends and reads.
        name: The topic.
        type: Type of its values.
    """

    def __init__(self, client: WorkflowStreamClient, name: str, type: type[T]) -> None:
        super().__init__(name, type)
        self._client = client

    def publish(self, value: T | Payload, *, force_flush: bool = False) -> None:
        """Put a value into the client's buffer; it is sent with the next batch.

        Args:
            value: What to publish; a `Payload` is taken as it is.
            force_flush: Send the batch now, without waiting for it here.

        Raises:
            PublishBufferFullError: Too much is not sent yet.
            Exception: What the payload converter raises for the value; then nothing is published.
        """
        self._client._publish_to_topic(self._name, value, force_flush=force_flush)

    def subscribe(
        self,
        from_offset: int = 0,
        *,
        poll_cooldown: timedelta = timedelta(milliseconds=100),
        allow_gaps: bool = True,
    ) -> AsyncIterator[WorkflowStreamItem[T]]:
        """Read the topic: `WorkflowStreamClient.subscribe` with its name and its type.

        Args:
            from_offset: The first offset to read.
            poll_cooldown: Pause after each page that was the last for now.
            allow_gaps: What to do if the stream no longer has the offset: go on with the oldest item, or raise.
        """
        return self._client.subscribe(
            [self._name],
            from_offset,
            result_type=self._type,
            poll_cooldown=poll_cooldown,
            allow_gaps=allow_gaps,
        )


class WorkflowTopicHandle(_Topic[T]):
    """A topic that the workflow itself publishes to. Made by `WorkflowStream.topic`.

    Args:
        stream: The stream of the workflow.
        name: The topic.
        type: Type of its values.
    """

    def __init__(self, stream: WorkflowStream, name: str, type: type[T]) -> None:
        super().__init__(name, type)
        self._stream = stream

    def publish(self, value: T | Payload) -> None:
        """Append a value to the stream.

        Args:
            value: What to publish; a `Payload` is taken as it is.

        Raises:
            Exception: What the payload converter raises for the value.
        """
        self._stream._publish_to_topic(self._name, value)
