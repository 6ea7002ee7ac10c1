"""Seeds of the simulated cluster: none finds anything wrong, and together they reach what is rare."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.report import describe_failure
from tests.simulation.world import run_seed

SEEDS = 1_000
CHUNK = 20

RARE = (
    "activity attempt hangs",
    "activity attempt lost",
    "activity cancellation requested",
    "activity cancelled",
    "activity retried",
    "activity timed out, type 1",
    "activity timed out, type 2",
    "activity timed out, type 3",
    "activity timed out, type 4",
    "already started",
    "buffer flushed",
    "buffer flushed with completions last",
    "child cancelled",
    "child completed",
    "child failed",
    "child started",
    "child terminated with its parent",
    "clock set back",
    "clock set forward",
    "closed parent with children to end",
    "closed run queried",
    "commit failed after",
    "commit during an outage",
    "commit failed before",
    "connection died",
    "continued as new",
    "count_runs failed before",
    "crashed after commit",
    "crashed before commit",
    "crashed before load_run",
    "current run conflict",
    "deleted on request",
    "due_wakeups failed before",
    "eager activity",
    "fired timer taken back",
    "first task with the start's answer",
    "first workflow task delayed",
    "given back: ActivityDelivery",
    "given back: QueryDelivery",
    "given back: WorkflowTaskDelivery",
    "history followed to its end",
    "history in pages",
    "history read backwards",
    "list_runs failed before",
    "load_run failed after",
    "next task with the completion",
    "nobody to signal",
    "operator: PauseActivity",
    "operator: PauseWorkflowExecution",
    "operator: ResetActivity",
    "operator: UnpauseActivity",
    "operator: UnpauseWorkflowExecution",
    "operator: UpdateActivityOptions",
    "operator: UpdateWorkflowExecutionOptions",
    "operator: batch",
    "other workflow asked to cancel",
    "other workflow signalled",
    "partial history",
    "query answered directly",
    "query answered with a workflow task",
    "query of a paused run",
    "read_history failed before",
    "read_tasks failed before",
    "request duplicated",
    "request lost",
    "reset",
    "response lost",
    "retention over",
    "schedule started a workflow, ALLOW_ALL",
    "schedule started a workflow, BUFFER_ALL",
    "schedule started a workflow, BUFFER_ONE",
    "schedule started a workflow, CANCEL_OTHER",
    "schedule started a workflow, SKIP",
    "schedule started a workflow, TERMINATE_OTHER",
    "schedule written with its action",
    "schedule: a start noted before it is done",
    "schedule: missed catchup window",
    "schedule: overlap skipped",
    "server crashed",
    "server down",
    "server stands still",
    "serving cancelled",
    "standalone activity ended, status 2",
    "standalone activity ended, status 3",
    "standalone activity ended, status 4",
    "standalone activity ended, status 5",
    "standalone activity ended, status 7",
    "standalone activity paused",
    "standalone activity retried",
    "standalone operation ended, status 2",
    "standalone operation ended, status 3",
    "standalone operation ended, status 5",
    "standalone operation tried again",
    "start failed",
    "started with a signal",
    "something happened to a paused run",
    "sticky task rerouted",
    "sticky task timed out",
    "sticky task without the run in the cache",
    "stopped in order",
    "store down",
    "timer cancelled",
    "transient task delivered",
    "update brought again by a reset",
    "version conflict",
    "worker crashed",
    "worker said goodbye",
    "workflow cancelled",
    "workflow id used again",
    "workflow task backs off",
    "workflow task failed: force close command",
    "workflow task failed: unhandled command",
    "workflow task heartbeats",
    "workflow task timed out",
    "workflow terminated",
    "workflow timed out",
    "workflow tried again",
)
"""Situations that the seeds of this file must bring about; a simulator that never meets them proves nothing."""


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_holds_whatever_goes_wrong(first: int) -> None:
    for seed in range(first, first + CHUNK):
        result = run_seed(seed)
        if result.error is not None:
            pytest.fail(describe_failure(result))


def test_rare_situations_are_reached() -> None:
    """The first of the seeds above suffice, so that one that stops reaching something is noticed early."""
    reached: Counter[str] = Counter()
    for seed in range(SEEDS // 4):
        reached.update(run_seed(seed).reached)
        missing = [name for name in RARE if not reached[name]]
        if not missing:
            return
    pytest.fail(f"never reached: {missing}")


def test_the_load_is_real() -> None:
    """Most seeds do work in spite of their faults: a world in which nothing succeeds would find nothing."""
    commits = [run_seed(seed).commits for seed in range(10)]
    assert min(commits) > 10
    assert sum(commits) > 1_000
