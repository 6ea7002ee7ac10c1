"""What all transports do alike with the bytes a server sends: how long a message may be, and reading it.

May live here: what does not depend on the protocol below. May not: connections, statuses of a protocol.
"""

from __future__ import annotations

import os
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from perdure.service._errors import RPCError, RPCStatusCode

ResponseT = TypeVar("ResponseT", bound=Message)

_MAX_RECEIVE_BYTES: Final = 128 * 1024 * 1024
_MAX_RECEIVE_VARIABLE: Final = "TEMPORAL_MAX_INCOMING_GRPC_BYTES"


def max_receive_bytes() -> int:
    """Return the longest message that is taken: 128 MiB, unless the environment says otherwise."""
    given = os.environ.get(_MAX_RECEIVE_VARIABLE, "")
    return int(given) if given.isdigit() else _MAX_RECEIVE_BYTES


def read_message(rpc_path: str, response_type: type[ResponseT], data: bytes) -> ResponseT:
    """Return the message of an answer.

    Args:
        rpc_path: Of the method that was called.
        response_type: Class of its answers.
        data: The answer.

    Raises:
        RPCError: The bytes are no such message (INTERNAL).
    """
    try:
        return response_type.FromString(data)
    except DecodeError as error:
        text = f"The answer of {rpc_path} is not a {response_type.__name__}: {error}"
        raise RPCError(text, RPCStatusCode.INTERNAL, b"") from error
