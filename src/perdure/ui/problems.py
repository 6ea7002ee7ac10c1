"""Errors of calls in words, for people: what it was, and what to do about it."""

from __future__ import annotations

from typing import Any, Final

from perdure.service import RPCError, RPCStatusCode

_ADVICE: Final = {
    RPCStatusCode.NOT_FOUND: "It may have been deleted, or its retention is over.",
    RPCStatusCode.PERMISSION_DENIED: "Your credentials do not allow this; other ones can be entered under Settings.",
    RPCStatusCode.UNAUTHENTICATED: "The server wants credentials; an access token can be entered under Settings.",
    RPCStatusCode.UNIMPLEMENTED: "This server does not have the feature.",
    RPCStatusCode.UNAVAILABLE: "The server cannot be reached at the moment; this page can be reloaded when it is back.",
    RPCStatusCode.DEADLINE_EXCEEDED: "Nobody answered in time. For queries and updates: is a worker running?",
    RPCStatusCode.RESOURCE_EXHAUSTED: "The server is busy or a limit was reached; try again in a moment.",
}
_HTTP: Final = {
    RPCStatusCode.INVALID_ARGUMENT: 400,
    RPCStatusCode.NOT_FOUND: 404,
    RPCStatusCode.ALREADY_EXISTS: 409,
    RPCStatusCode.PERMISSION_DENIED: 403,
    RPCStatusCode.UNAUTHENTICATED: 401,
    RPCStatusCode.RESOURCE_EXHAUSTED: 429,
    RPCStatusCode.FAILED_PRECONDITION: 409,
    RPCStatusCode.ABORTED: 409,
    RPCStatusCode.UNIMPLEMENTED: 501,
    RPCStatusCode.UNAVAILABLE: 503,
    RPCStatusCode.DEADLINE_EXCEEDED: 504,
}


def problem(error: RPCError) -> dict[str, Any]:
    """An error as plain values."""
    message = error.message.strip() or "The server gave no reason."
    if message[-1] not in ".!?":
        message += "."
    return {
        "code": error.status.name,
        "message": message[0].upper() + message[1:],
        "advice": _ADVICE.get(error.status, ""),
    }


def http_status(error: RPCError) -> int:
    """The HTTP status of a page that shows nothing but this error."""
    return _HTTP.get(error.status, 502)
