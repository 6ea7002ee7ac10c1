"""Small conversions between Python values and fields of messages.

May live here: what every part of the client needs to read or fill messages. May not: anything about one kind of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from google.protobuf.message import Message

from perdure.service import RPCError, RPCStatusCode

if TYPE_CHECKING:
    from perdure.api.common.v1 import Callback as CallbackMessage
    from perdure.api.common.v1 import Link, Payload
    from perdure.api.protobuf import Duration, Timestamp
    from perdure.api.sdk.v1 import UserMetadata
    from perdure.client._callback import Callback
    from perdure.converter import DataConverter

ResponseT = TypeVar("ResponseT")


def enum_value(value: IntEnum | None) -> Any:
    """Return an enum of the SDK as the wire's number; None is the wire's "unspecified"."""
    return 0 if value is None else int(value)


def new_request_id() -> str:
    """Return a random UUID, straight from the system's randomness: cheaper than `uuid.uuid4`, and safe across forks."""
    bits = int.from_bytes(os.urandom(16), "big")
    text = f"{(bits & ~(0xF << 76) & ~(0x3 << 62)) | (4 << 76) | (2 << 62):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def callback_messages(callbacks: Sequence[Callback], links: Sequence[Link]) -> Iterator[CallbackMessage]:
    """Yield where an outcome is to be sent, as requests say it.

    Args:
        callbacks: The addresses.
        links: To who waits there.
    """
    from perdure.api.common.v1 import Callback as CallbackMessage

    for callback in callbacks:
        nexus = CallbackMessage.Nexus(url=callback.url, header=callback.headers)
        yield CallbackMessage(nexus=nexus, links=links)


def utc(timestamp: Timestamp) -> datetime:
    """Return a timestamp as an aware datetime in UTC."""
    return timestamp.ToDatetime(tzinfo=UTC)


def optional_utc(message: Message, field: str) -> datetime | None:
    """Return a timestamp field as an aware datetime, or None if it is not set."""
    return utc(getattr(message, field)) if message.HasField(field) else None


def optional_timedelta(message: Message, field: str) -> timedelta | None:
    """Return a duration field, or None if it is not set."""
    value: timedelta = getattr(message, field).ToTimedelta()
    return value if message.HasField(field) else None


def duration(value: timedelta | None) -> Duration | None:
    """Return a duration as a message; None stays None and leaves a field unset."""
    if value is None:
        return None
    from perdure.api.protobuf import Duration

    message = Duration()
    message.FromTimedelta(value)
    return message


def timestamp(value: datetime | None) -> Timestamp | None:
    """Return a point in time as a message (a naive one counts as UTC); None stays None and leaves a field unset."""
    if value is None:
        return None
    from perdure.api.protobuf import Timestamp

    message = Timestamp()
    message.FromDatetime(value)
    return message


async def _apply_headers(
    source: Mapping[str, Payload] | None,
    dest: Any,
    encode_headers: bool,
    data_converter: DataConverter,
) -> None:
    """Put headers into a message.

    Args:
        source: The headers. They stay as they are: an interceptor may send the same payload with every call.
        dest: The map field.
        encode_headers: Whether the payload codec is applied to them.
        data_converter: Has the codec.
    """
    if not source:
        return
    for key, payload in source.items():
        sent = await data_converter._transform_outbound_payload(payload) if encode_headers else payload
        dest[key].CopyFrom(sent)


async def _encode_user_metadata(
    converter: DataConverter, summary: str | Payload | None, details: str | Payload | None
) -> UserMetadata | None:
    """Return summary and details as the wire has them; what is a payload already stays as it is."""
    if summary is None and details is None:
        return None
    from perdure.api.sdk.v1 import UserMetadata

    async def encoded(text: str | Payload | None) -> Payload | None:
        return (await converter.encode([text]))[0] if isinstance(text, str) else text

    return UserMetadata(summary=await encoded(summary), details=await encoded(details))


async def _decode_user_metadata(
    converter: DataConverter, metadata: UserMetadata | None
) -> tuple[str | None, str | None]:
    """Return summary and details as texts."""
    if metadata is None:
        return None, None

    async def decoded(field: Literal["summary", "details"]) -> str | None:
        if not metadata.HasField(field):
            return None
        texts: list[Any] = await converter.decode([getattr(metadata, field)])
        return str(texts[0])

    return await decoded("summary"), await decoded("details")


async def long_polled(call: Callable[[], Awaitable[ResponseT]]) -> ResponseT:
    """Make a call that waits for something, and make it again when the time of one such call is up.

    Raises:
        asyncio.CancelledError: The call was cancelled.
        RPCError: It was refused.
    """
    while True:
        try:
            return await call()
        except RPCError as error:
            if error.status is RPCStatusCode.CANCELLED:
                raise asyncio.CancelledError from error
            if error.status is not RPCStatusCode.DEADLINE_EXCEEDED:
                raise
