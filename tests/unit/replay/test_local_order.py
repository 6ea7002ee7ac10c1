"""Histories with local activities that other workers wrote: the code is told as it was told then.

The histories are written by hand, with markers as each kind of worker writes them. What a running worker of ours
writes is in test_local_activity.py.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from perdure.core.replay.activation import ResolveActivity, SignalWorkflow
from perdure.core.replay.markers import LOCAL_ACTIVITY_MARKER, LocalActivityMarker, local_activity_details
from tests.unit.replay.bench import START_NS, Bench
from tests.unit.replay.code import Code, Context, Stopped

TOGETHER: Final = {"core_used_flags": [1, 2, 3], "sdk_name": "temporal-python", "sdk_version": "1.31.0"}
NUMBERED: Final = {"core_used_flags": [1, 2, 3, 4], "sdk_name": "temporal-python", "sdk_version": "1.35.0"}
APART: Final = {"core_used_flags": [1, 2, 3], "sdk_name": "perdure-python", "sdk_version": "0.1"}
UNKNOWN: Final[dict[str, Any]] = {}

Markers = list[tuple[int, int | None]]
"""Number of a local activity and of the activation that told the code, in the order of history."""


async def two(context: Context) -> None:
    async def one(name: str) -> None:
        await context.local(name)
        context.log.append(name)

    first, second = context.spawn(one("x")), context.spawn(one("y"))
    await first
    await second


async def canceled_beside(context: Context) -> None:
    """A local activity runs while an activity is given up: two things are told after the first one."""
    slow = context.activity("slow")
    await context.local("x")
    local = context.local("y")
    context.cancel_activity(slow)
    with pytest.raises(Stopped):
        await slow
    await local


def complete_task(bench: Bench, metadata: dict[str, Any]) -> None:
    started = bench.open_task()
    bench.add(
        "WORKFLOW_TASK_COMPLETED",
        scheduled_event_id=started - 1,
        started_event_id=started,
        sdk_metadata=metadata,
    )


def add_markers(bench: Bench, names: dict[int, str], markers: Markers) -> None:
    for seq, index in markers:
        marker = LocalActivityMarker(
            seq, 1, str(seq), names[seq], START_NS, None, None, activation_index=index
        )
        details = local_activity_details(marker)
        bench.add("MARKER_RECORDED", marker_name=LOCAL_ACTIVITY_MARKER, details=details)


def told(bench: Bench) -> list[list[int | str]]:
    """What a replay tells by activation: numbers of activities, names of signals."""
    code = bench.make()
    assert bench.replay(lambda: code) is None
    activations = []
    for activation in code.activations:
        jobs: list[int | str] = []
        for job in activation.jobs:
            if isinstance(job, ResolveActivity):
                jobs.append(job.seq)
            elif isinstance(job, SignalWorkflow):
                jobs.append(job.name)
        activations.append(jobs)
    return [jobs for jobs in activations if jobs]


@pytest.mark.parametrize(
    ("metadata", "markers", "expected"),
    [
        pytest.param(TOGETHER, [(2, None), (1, None)], [[2, 1]], id="together, in the order of markers"),
        pytest.param(UNKNOWN, [(2, None), (1, None)], [[2, 1]], id="nobody says who wrote it"),
        pytest.param(NUMBERED, [(2, 1), (1, 2)], [[2], [1]], id="each by itself"),
        pytest.param(NUMBERED, [(2, 1), (1, 1)], [[2, 1]], id="both at once"),
        pytest.param(NUMBERED, [(2, 5), (1, 7)], [[2], [1]], id="activations that left no trace before"),
        pytest.param(APART, [(2, None), (1, None)], [[1, 2]], id="ours without numbers: sorted"),
    ],
)
def test_several_at_once(metadata: dict[str, Any], markers: Markers, expected: list[list[int]]) -> None:
    bench = Bench(lambda: Code(two))
    complete_task(bench, metadata)
    add_markers(bench, {1: "x", 2: "y"}, markers)
    bench.add("WORKFLOW_EXECUTION_COMPLETED")
    assert told(bench) == expected


@pytest.mark.parametrize(
    ("metadata", "indexes", "expected"),
    [
        pytest.param(TOGETHER, (None, None), [[2], [1, 3]], id="together"),
        pytest.param(NUMBERED, (1, 2), [[2], [1, 3]], id="in the same activation"),
        pytest.param(NUMBERED, (1, 3), [[2], [1], [3]], id="in the one behind it"),
        pytest.param(APART, (None, None), [[2], [1], [3]], id="ours without numbers: apart"),
    ],
)
def test_with_other_jobs(
    metadata: dict[str, Any], indexes: tuple[int | None, int | None], expected: list[list[int]]
) -> None:
    bench = Bench(lambda: Code(canceled_beside))
    complete_task(bench, metadata)
    add_markers(bench, {2: "x", 3: "y"}, [(2, indexes[0]), (3, indexes[1])])
    bench.add("WORKFLOW_EXECUTION_COMPLETED")
    assert told(bench) == expected


@pytest.mark.parametrize(
    ("metadata", "index", "expected"),
    [
        pytest.param(TOGETHER, None, [["go", 1]], id="together"),
        pytest.param(NUMBERED, 0, [["go", 1]], id="done when the task came"),
        pytest.param(NUMBERED, 1, [["go"], [1]], id="done in the task"),
        pytest.param(APART, None, [["go"], [1]], id="ours without numbers: apart"),
    ],
)
def test_in_a_later_task(
    metadata: dict[str, Any], index: int | None, expected: list[list[int | str]]
) -> None:
    """A local activity goes on while its first task is handed in; the second one brings a signal."""

    async def main(context: Context) -> None:
        await context.local("x")

    bench = Bench(lambda: Code(main))
    complete_task(bench, metadata)
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
    complete_task(bench, {})
    add_markers(bench, {1: "x"}, [(1, index)])
    bench.add("WORKFLOW_EXECUTION_COMPLETED")
    assert told(bench) == expected
