"""The error of a payload that was converted and is not valid."""

from __future__ import annotations

from typing import Any, Final

from perdure.exceptions import ApplicationError

_TYPE: Final = "PayloadValidationError"


def create_payload_validation_error(details: Any) -> ApplicationError:
    """Return an error that says that a payload is not valid, which is not retried.

    Args:
        details: What is wrong with it, or None.
    """
    return ApplicationError(
        "Payload validation failed",
        *(() if details is None else (details,)),
        type=_TYPE,
        non_retryable=True,
    )


def is_payload_validation_error(error: BaseException) -> bool:
    """Return whether this is such an error: whoever sent the payload has to send another one."""
    return isinstance(error, ApplicationError) and error.non_retryable and error.type == _TYPE
