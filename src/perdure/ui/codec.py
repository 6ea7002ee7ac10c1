"""Payloads that only a codec can read: asks a remote codec, by its HTTP protocol, to decode and to encode them."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from perdure.api.common.v1 import Payload, Payloads
from perdure.api.failure.v1 import Failure
from perdure.api.registry import POOL
from perdure.converter._walk import messages_in, payloads_in
from perdure.ui.config import MAX_CODEC_BYTES

TIMEOUT_S: Final = 5.0
_READABLE: Final = frozenset({b"json/plain", b"json/protobuf", b"binary/null", b"binary/plain", b""})
_PART_BYTES: Final = 65_536


class CodecError(Exception):
    """The codec did not do it; the message says why, for the user."""


def check_endpoint(endpoint: str) -> str:
    """A codec's address, as it is used.

    Raises:
        CodecError: it is none.
    """
    try:
        parts = urlsplit(endpoint.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise CodecError("The codec endpoint must be an address such as http://localhost:8081")
    return endpoint.strip().rstrip("/")


class RemoteCodec:
    """A codec behind an address.

    Args:
        endpoint: without `/decode` and `/encode`.
        namespace: sent as `X-Namespace`; the address may name it as `{namespace}`.
        authorization: sent along, if not empty.
    """

    def __init__(self, endpoint: str, namespace: str, authorization: str = "") -> None:
        self._endpoint = check_endpoint(endpoint.replace("{namespace}", quote(namespace, safe="")))
        self._headers = {"Content-Type": "application/json", "X-Namespace": namespace}
        if authorization:
            self._headers["Authorization"] = authorization

    async def decode(self, message: Message) -> None:
        """Decodes, in place, the payloads in a message that cannot be read without a codec.

        Raises:
            CodecError: the codec did not do it.
        """
        found = [
            payload
            for payload in payloads_in(message)
            if payload.metadata.get("encoding", b"") not in _READABLE
        ]
        if found:
            for payload, decoded in zip(found, await self.apply("decode", found), strict=True):
                payload.CopyFrom(decoded)
        for each in messages_in(message):
            if isinstance(each, Failure):
                _show_attributes(each)

    async def apply(self, what: str, payloads: Sequence[Payload]) -> list[Payload]:
        """What the codec makes of payloads.

        Args:
            what: `decode` or `encode`.
            payloads: all of one call.

        Raises:
            CodecError: the codec did not do it.
        """
        body = json.dumps(MessageToDict(Payloads(payloads=payloads), descriptor_pool=POOL)).encode()
        url = urlsplit(f"{self._endpoint}/{what}")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await asyncio.to_thread(_post, url, body, self._headers)
            decoded = ParseDict(
                json.loads(answer), Payloads(), ignore_unknown_fields=True, descriptor_pool=POOL
            )
        except (OSError, http.client.HTTPException, TimeoutError) as error:
            raise CodecError(f"The codec at {self._endpoint} cannot be reached: {_why(error)}") from error
        except (ValueError, RecursionError, ParseError, TypeError) as error:
            raise CodecError(
                f"The codec at {self._endpoint} answered with something else than payloads."
            ) from error
        if len(decoded.payloads) != len(payloads):
            raise CodecError(
                f"The codec at {self._endpoint} answered with {len(decoded.payloads)} payloads, not {len(payloads)}."
            )
        return list(decoded.payloads)


def _why(error: Exception) -> str:
    return str(error) or f"no answer in {TIMEOUT_S:g} seconds"


def _post(url: SplitResult, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Runs in a thread: the standard library's client blocks."""
    deadline_s = time.monotonic() + TIMEOUT_S
    connection_class = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = connection_class(url.hostname or "", url.port, timeout=TIMEOUT_S)
    answer = bytearray()
    try:
        connection.request("POST", url.path + (f"?{url.query}" if url.query else ""), body, dict(headers))
        response = connection.getresponse()
        while len(answer) <= MAX_CODEC_BYTES and (part := response.read1(_PART_BYTES)):
            answer += part
            if time.monotonic() > deadline_s:
                # Nobody waits any more, and threads are few: an answer may come in pieces for ever.
                raise TimeoutError
    finally:
        connection.close()
    if response.status != 200:
        said = answer[:200].decode(errors="replace").strip()
        raise OSError(f"it answered {response.status} {response.reason}" + (f": {said}" if said else ""))
    if len(answer) > MAX_CODEC_BYTES:
        raise OSError(f"its answer is larger than {MAX_CODEC_BYTES} bytes")
    return bytes(answer)


def _show_attributes(failure: Failure) -> None:
    """Puts what a failure's converter moved into a payload back to where it is read."""
    if not failure.HasField("encoded_attributes"):
        return
    try:
        found = json.loads(failure.encoded_attributes.data)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict):
        failure.message = str(found.get("message", failure.message))
        failure.stack_trace = str(found.get("stack_trace", failure.stack_trace))
