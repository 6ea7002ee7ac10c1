"""A codec server: payloads of requests go through its `/encode`, those of answers through its `/decode`.

Search attributes are never encoded; everything else that is a payload is, whatever message it stands in.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.request
from typing import Final

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from perdure.api.common import v1 as common
from perdure.cli.errors import CommandError
from perdure.cli.settings import Codec
from perdure.converter._walk import payloads_in

TIMEOUT_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024


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
    payloads = list(payloads_in(message))
    if not payloads:
        return
    answers = await asyncio.to_thread(_post, codec, way, payloads)
    for payload, answer in zip(payloads, answers, strict=True):
        payload.CopyFrom(answer)


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
