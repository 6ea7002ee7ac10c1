"""Where the payloads of any message are, for codecs outside the data converter: the command line's and the web UI's.

Search attributes are left alone: the server indexes them, so no codec may have made them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import Message

from perdure.api.common.v1 import Payload

_NEVER_ENCODED: Final = "temporal.api.common.v1.SearchAttributes"


def messages_in(message: Message) -> Iterator[Message]:
    """A message and every message inside it, outer ones first; maps in the order of their keys."""
    if message.DESCRIPTOR.full_name == _NEVER_ENCODED:
        return
    yield message
    for field, value in message.ListFields():
        kind: Any = field.message_type
        if kind is None:
            continue
        inner: Any = [value]
        if kind.GetOptions().map_entry:
            is_of_messages = kind.fields_by_name["value"].message_type is not None
            inner = [value[key] for key in sorted(value)] if is_of_messages else []
        elif field.is_repeated:
            inner = value
        for each in inner:
            yield from messages_in(each)


def payloads_in(message: Message) -> Iterator[Payload]:
    """Every payload inside a message that a codec may have made."""
    return (each for each in messages_in(message) if isinstance(each, Payload))
