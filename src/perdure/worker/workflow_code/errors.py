"""Errors that the executor raises into workflow code."""

from __future__ import annotations

from perdure.exceptions import TemporalError


class UnsupportedInWorkflowError(TemporalError, NotImplementedError):
    """Workflow code asked the event loop for something that only a real event loop has."""

    def __init__(self, what: str) -> None:
        """Says what was asked for and what to do instead."""
        super().__init__(
            f"{what} is not available in workflow code: its effect could not be repeated when history is replayed. "
            "Do it in an activity and await the activity's result."
        )
        self.what = what


class _WorkflowBeingEvictedError(BaseException):
    """The run leaves the worker's cache: whatever the code still asks for is not recorded.

    Not an `Exception`, so that workflow code that catches exceptions does not go on.
    """
