"""The one way to check in production what must always hold."""

from __future__ import annotations

from perdure.core.errors import InvariantViolation


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
