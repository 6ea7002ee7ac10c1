"""What travels between publishers, streams and subscribers, and what it is called there.

Here: messages, wire names, the form and the size of an item. Not here: what anybody does with them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Generic, TypeVar

from perdure.api.common.v1 import Payload
from perdure.exceptions import TemporalError

T = TypeVar("T")

PUBLISH_SIGNAL: Final = "__temporal_workflow_stream_publish"
POLL: Final = "__temporal_workflow_stream_poll"
"""An update, which waits, and a query, which does not."""
OFFSET_QUERY: Final = "__temporal_workflow_stream_offset"

STREAM_DRAINING: Final = "StreamDraining"
"""Type of the error that rejects a poll while the stream moves to the next run."""
TRUNCATED_OFFSET: Final = "TruncatedOffset"
"""Type of the error that fails a poll whose offset is no longer there."""
TRUNCATE_OUT_OF_RANGE: Final = "TruncateOutOfRange"
"""Type of the error for cutting off more than there is."""

MAX_MESSAGE_BYTES: Final = 1_000_000
"""Of items in one page or one batch; a larger item goes alone. Servers refuse payloads above 2 MB."""
_FRAME_BYTES: Final = 64
"""What JSON puts around an item: names, quotes, its offset."""


@dataclass
class WorkflowStreamItem(Generic[T]):
    """An item as a subscriber gets it."""

    topic: str
    data: T
    """The value, as `result_type` asks for it."""
    offset: int = 0
    """Its number in the stream, over all topics and runs: the next one to read is one higher."""


@dataclass
class PublishEntry:
    """An item on its way to the stream."""

    topic: str
    data: str
    """Base64 of the serialised payload."""


@dataclass
class PublishInput:
    """Argument of the signal that publishes: a batch, which is taken as a whole or not at all."""

    items: list[PublishEntry] = field(default_factory=list)
    publisher_id: str = ""
    """Who publishes; empty: nobody who would repeat himself."""
    sequence: int = 0
    """Number of the publisher's batch, growing. A number that is not higher than the last one is a repetition."""


@dataclass
class PollInput:
    """Argument of the update that waits for items, and of the query for those that there are."""

    topics: list[str] = field(default_factory=list)
    """Empty: all."""
    from_offset: int = 0
    """The first to return; 0 is the oldest that there is."""


@dataclass
class WireItem:
    """An item on its way to a subscriber, or to the next run (which counts offsets itself)."""

    topic: str
    data: str
    """Base64 of the serialised payload."""
    offset: int = 0


@dataclass
class PollResult:
    """A page of items: result of the update and of the query."""

    items: list[WireItem] = field(default_factory=list)
    next_offset: int = 0
    """Where the next page begins."""
    more_ready: bool = False
    """There was more than a page holds."""


@dataclass
class PublisherState:
    """What a stream remembers of a publisher."""

    sequence: int
    """Of its last batch."""
    last_seen: datetime
    """Workflow time of that batch."""


@dataclass
class WorkflowStreamState:
    """A stream on its way to the next run of its workflow.

    The field of the workflow's input must be annotated `WorkflowStreamState | None`, or it arrives as a dict.
    """

    log: list[WireItem] = field(default_factory=list)
    base_offset: int = 0
    """Offset of the first item of the log."""
    publishers: dict[str, PublisherState] = field(default_factory=dict)


class TruncatedOffsetError(TemporalError):
    """A subscription that allows no gaps asked for items that the stream no longer has."""


class PublishBufferFullError(TemporalError):
    """A publisher has too much that is not sent yet. Await `WorkflowStreamClient.flush`, then publish again."""


def _encode_payload(payload: Payload) -> str:
    return base64.b64encode(payload.SerializeToString()).decode("ascii")


def _decode_payload(data: str) -> Payload:
    """The payload of an item.

    Raises:
        ValueError: The text is not base64.
        google.protobuf.message.DecodeError: The bytes are no payload.
    """
    return Payload.FromString(base64.b64decode(data, validate=True))


def item_bytes(topic: str, data: str) -> int:
    """About what an item takes in a page, a batch or the state of a stream, in bytes."""
    return len(data) + len(topic.encode()) + _FRAME_BYTES
