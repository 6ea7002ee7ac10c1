"""A codec server: payloads of requests go through its `/encode`, those of answers through its `/decode`.

Search attributes are never encoded: the server indexes them. Everything else that is a payload is, whatever message
it stands in.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.request
from collections.abc import Iterator
from typing import Any, Final, cast

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from perdure.api.common import v1 as common
from perdure.cli.errors import CommandError
from perdure.cli.settings import Codec

TIMEOUT_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_PAYLOAD: Final = "temporal.api.common.v1.Payload"
_LEFT_ALONE: Final = frozenset({"temporal.api.common.v1.SearchAttributes"})


async def encode(codec: Codec, message: Message) -> None:
    """Sends a request's payloads through the codec, in place.

    Raises:
        CommandError: the codec server does not answer as it should.
    """
    await _through(codec, "encode", message)


async def decode(codec: Codec, message: Message) -> None:
    """Sends an answer's payloads back through the codec, in place.

    Raises:
        CommandError: the codec server does not answer as it should.
    """
    await _through(codec, "decode", message)


async def _through(codec: Codec, way: str, message: Message) -> None:
    payloads = list(_payloads(message))
    if not payloads:
        return
    answers = await asyncio.to_thread(_post, codec, way, payloads)
    for payload, answer in zip(payloads, answers, strict=True):
        payload.CopyFrom(answer)


def _payloads(message: Message) -> Iterator[common.Payload]:
    descriptor: Any = message.DESCRIPTOR
    if descriptor.full_name == _PAYLOAD:
        yield cast(common.Payload, message)
        return
    if descriptor.full_name in _LEFT_ALONE:
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in sorted(value):
                    yield from _payloads(value[key])
        elif field.is_repeated:
            for each in value:
                yield from _payloads(each)
        else:
            yield from _payloads(value)


def _post(codec: Codec, way: str, payloads: list[common.Payload]) -> list[common.Payload]:
    url = f"{codec.endpoint.rstrip('/')}/{way}"
    body = json.dumps({"payloads": [MessageToDict(payload) for payload in payloads]}).encode()
    headers = {"Content-Type": "application/json", **codec.headers}
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            read = ParseDict(json.loads(answer.read(MAX_ANSWER_BYTES)), common.Payloads())
    except (OSError, http.client.HTTPException, ValueError, RecursionError, ParseError) as error:
        raise CommandError(f"the codec server {url} failed: {error}") from error
    if len(read.payloads) != len(payloads):
        raise CommandError(
            f"the codec server {url} answered {len(read.payloads)} payloads for {len(payloads)}"
        )
    return list(read.payloads)
