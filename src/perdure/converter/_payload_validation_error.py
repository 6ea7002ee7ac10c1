"""The error of a payload that was converted and is not valid."""

from __future__ import annotations

from typing import Any

from perdure.exceptions import ApplicationError


def create_payload_validation_error(details: Any) -> ApplicationError:
    """Return an error that says that a payload is not valid, which is not retried.

    Args:
        details: What is wrong with it, or None.
    """
    return ApplicationError(
        "Payload validation failed",
        *(() if details is None else (details,)),
        type="PayloadValidationError",
        non_retryable=True,
    )
