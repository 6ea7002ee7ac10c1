"""What a person needs to know of a seed that failed."""

from __future__ import annotations

from tests.simulation.world import Result

LAST_LINES = 60


def describe_failure(result: Result) -> str:
    """The seed, what went wrong, the last lines of its trace and how to run it again."""
    lines = "\n".join(list(result.trace.lines)[-LAST_LINES:])
    return (
        f"seed {result.seed} failed: {type(result.error).__name__}: {result.error}\n"
        f"the last {LAST_LINES} lines of its trace:\n{lines}\n"
        f"again: python -m tests.simulation --seed {result.seed} --trace"
    )
