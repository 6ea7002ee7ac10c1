"""The one way to check in production what must always hold."""

from __future__ import annotations

from typing import TypeVar

from perdure.core.errors import InvariantViolation

Value = TypeVar("Value")


def invariant(condition: object, message: str, **context: object) -> None:
    """Raise unless `condition` is true.

    Args:
        condition: Anything; its truth value is what must hold.
        message: The rule that was found broken, as a sentence a developer understands.
        context: Values that help to find the cause. They are shown in the error, so never pass a user's
            payload.

    Raises:
        InvariantViolation: `condition` is false.
    """
    if not condition:
        raise InvariantViolation(message, **context)


def present(value: Value | None, message: str, **context: object) -> Value:
    """Return a value that must be there.

    Args:
        value: The value.
        message, context: As of `invariant`.

    Raises:
        InvariantViolation: `value` is None.
    """
    if value is None:
        raise InvariantViolation(message, **context)
    return value
