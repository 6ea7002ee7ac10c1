"""The one way to check in production what must always hold."""

from __future__ import annotations


class InvariantViolation(Exception):
    """A statement about Perdure's own state is false: a defect in Perdure, never the caller's fault."""

    def __init__(self, message: str, context: dict[str, object]) -> None:
        details = ", ".join(f"{name}={value!r}" for name, value in context.items())
        super().__init__(f"{message} ({details})" if details else message)
        self.message = message
        self.context = context


def invariant(condition: object, message: str, **context: object) -> None:
    """Raise unless `condition` is true.

    Args:
        condition: Anything; its truth value is what must hold.
        message: The statement that was found false, as a sentence a developer understands.
        context: Values that help to find the cause. They are shown in the error, so never pass a user's payload.

    Raises:
        InvariantViolation: `condition` is false.
    """
    if not condition:
        raise InvariantViolation(message, context)
