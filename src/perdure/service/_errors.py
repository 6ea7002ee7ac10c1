"""What a call to a service can end in: a status, and the errors a caller meets.

May live here: error classes and how they are read. May not: anything that makes a call.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message

from perdure.exceptions import TemporalError

if TYPE_CHECKING:
    from perdure.api.common.v1 import GrpcStatus


MessageT = TypeVar("MessageT", bound=Message)
_MESSAGE_TOO_LARGE = (
    "grpc: received message larger than max",
    "grpc: message after decompression larger than max",
    "grpc: received message after decompression larger than max",
)


class RPCStatusCode(IntEnum):
    """The status codes of gRPC, which every transport uses."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RPCError(TemporalError):
    """A call was answered with an error, or not at all.

    Args:
        message: What the server (or the transport) said.
        status: The status code.
        raw_grpc_status: A serialised `google.rpc.Status` with details, or empty bytes.
    """

    def __init__(self, message: str, status: RPCStatusCode, raw_grpc_status: bytes) -> None:
        super().__init__(message)
        self._message = message
        self._status = status
        self._raw_grpc_status = raw_grpc_status
        self._grpc_status: GrpcStatus | None = None

    @property
    def message(self) -> str:
        """What the server said."""
        return self._message

    @property
    def status(self) -> RPCStatusCode:
        """The status code."""
        return self._status

    @property
    def raw_grpc_status(self) -> bytes:
        """The serialised status with its details; empty if the server sent none."""
        return self._raw_grpc_status

    @property
    def grpc_status(self) -> GrpcStatus:
        """The status with its details, parsed on first use."""
        if self._grpc_status is None:
            from perdure.api.common.v1 import GrpcStatus

            self._grpc_status = GrpcStatus.FromString(self._raw_grpc_status)
        return self._grpc_status


class NoGrpcAnswerError(RPCError):
    """What answered sent an HTTP status and none of gRPC's: it is no gRPC server, whatever status is made of that."""


def detail_of(error: RPCError, kind: type[MessageT]) -> MessageT | None:
    """Return the detail of this class in an error's status; None if it has none."""
    for packed in error.grpc_status.details:
        found = kind()
        if packed.Unpack(found):
            return found
    return None


def is_too_large(error: RPCError) -> bool:
    """Return whether the message was too big for the server, so that sending it again is useless."""
    return error.status is RPCStatusCode.RESOURCE_EXHAUSTED and error.message.startswith(_MESSAGE_TOO_LARGE)


class ClientConnectError(TemporalError, RuntimeError):
    """No connection could be made; the message says why and what to do. `__cause__` is the error underneath."""


class ClientClosedError(TemporalError, RuntimeError):
    """A call was made on a client that has been closed."""

    def __init__(self, message: str = "This client has been closed; connect a new one.") -> None:
        super().__init__(message)


def closed_under_way() -> RPCError:
    """Return the error of a call that was under way when its client was closed."""
    return RPCError("the client was closed", RPCStatusCode.CANCELLED, b"")
