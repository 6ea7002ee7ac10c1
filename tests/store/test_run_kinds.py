"""Conformance: runs of workflows, standalone activities and standalone operations share ids without meeting."""

from __future__ import annotations

import pytest

from perdure.core.errors import CurrentRunConflictError, VersionConflictError
from perdure.core.run.records import QueueKey, RunKind, TaskKind
from perdure.store.protocol import Store, Wakeup
from tests.store.builders import NAMESPACE, record, run_key, task, write

WORKFLOW = run_key(1, "same-id")
ACTIVITY = run_key(2, "same-id")._replace(kind=RunKind.ACTIVITY)
OPERATION = run_key(4, "same-id")._replace(kind=RunKind.NEXUS_OPERATION)
NEXT = run_key(3, "same-id")._replace(kind=RunKind.ACTIVITY)
QUEUE = QueueKey(NAMESPACE, "orders", TaskKind.ACTIVITY)


async def test_the_current_run_of_an_id_is_one_per_kind(store: Store) -> None:
    """Else an activity could not have the id of a workflow, or would end its runs."""
    await store.commit([write(WORKFLOW)])
    await store.commit([write(ACTIVITY)])
    await store.commit([write(ACTIVITY, 1, status=2)])
    await store.commit([write(NEXT, expected_current_run_id=ACTIVITY.run_id)])
    workflow = await store.current_run(NAMESPACE, "same-id")
    activity = await store.current_run(NAMESPACE, "same-id", RunKind.ACTIVITY)
    assert workflow is not None
    assert workflow.run == WORKFLOW
    assert activity is not None
    assert activity.run == NEXT
    assert activity.run.kind is RunKind.ACTIVITY


async def test_a_current_run_of_another_kind_is_not_expected(store: Store) -> None:
    """A start that saw the workflow's run has not seen an activity's."""
    await store.commit([write(WORKFLOW)])
    with pytest.raises(CurrentRunConflictError):
        await store.commit([write(ACTIVITY, expected_current_run_id=WORKFLOW.run_id)])


async def test_a_run_is_found_under_its_kind_only(store: Store) -> None:
    """A run id names one run in the whole store, of one kind."""
    await store.commit([write(ACTIVITY)])
    assert await store.load_run(ACTIVITY._replace(kind=RunKind.WORKFLOW)) is None
    with pytest.raises(VersionConflictError):
        await store.commit([write(ACTIVITY._replace(kind=RunKind.WORKFLOW))])
    assert not await store.delete_run(ACTIVITY._replace(kind=RunKind.WORKFLOW))
    stored = await store.load_run(ACTIVITY)
    assert stored is not None
    assert stored.run.kind is RunKind.ACTIVITY


async def test_lists_and_counts_show_one_kind(store: Store) -> None:
    """A list of workflows never shows a standalone activity."""
    for run in (WORKFLOW, ACTIVITY):
        await store.commit([write(run, visibility=record(run))])
    assert [row.run for row in (await store.list_runs(NAMESPACE, None, 10, None)).rows] == [WORKFLOW]
    listed = await store.list_runs(NAMESPACE, None, 10, None, RunKind.ACTIVITY)
    assert [row.run for row in listed.rows] == [ACTIVITY]
    assert await store.count_runs(NAMESPACE, None, None, RunKind.ACTIVITY) == [(None, 1)]
    assert await store.delete_run(ACTIVITY)
    assert not (await store.list_runs(NAMESPACE, None, 10, None, RunKind.ACTIVITY)).rows


async def test_tasks_of_both_kinds_wait_in_one_order(store: Store) -> None:
    """Workers of a queue serve both, by priority and then by arrival."""
    await store.commit([write(ACTIVITY, tasks_put=(task(ACTIVITY, 1, QUEUE),))])
    await store.commit([write(WORKFLOW, tasks_put=(task(WORKFLOW, 5, QUEUE),))])
    await store.commit(
        [write(NEXT, becomes_current=False, tasks_put=(task(NEXT, 1, QUEUE, priority_key=1),))]
    )
    waiting = [found.run for _, found in await store.read_tasks(QUEUE, None, 10)]
    assert waiting == [NEXT, ACTIVITY, WORKFLOW]
    assert [run.kind for run in waiting] == [RunKind.ACTIVITY, RunKind.ACTIVITY, RunKind.WORKFLOW]
    assert list(await store.count_tasks(QUEUE)) == [(1, 1, 1_000), (3, 2, 1_000)]


async def test_wakeups_say_of_what_the_run_is(store: Store) -> None:
    """Who wakes runs must know which of the two to apply."""
    await store.commit([write(WORKFLOW, wakeup_ns=5)])
    await store.commit([write(ACTIVITY, wakeup_ns=5)])
    due = await store.due_wakeups(5, None, 10)
    assert list(due) == [Wakeup(5, WORKFLOW), Wakeup(5, ACTIVITY)]
    assert [wakeup.run.kind for wakeup in due] == [RunKind.WORKFLOW, RunKind.ACTIVITY]
    assert list(await store.due_wakeups(5, Wakeup(5, WORKFLOW), 10)) == [Wakeup(5, ACTIVITY)]


async def test_operations_are_a_kind_of_their_own(store: Store) -> None:
    """An id, a list and a wake-up that neither workflows nor activities see."""
    for run in (WORKFLOW, ACTIVITY, OPERATION):
        await store.commit([write(run, visibility=record(run), wakeup_ns=5)])
    current = await store.current_run(NAMESPACE, "same-id", RunKind.NEXUS_OPERATION)
    assert current is not None
    assert current.run == OPERATION
    listed = await store.list_runs(NAMESPACE, None, 10, None, RunKind.NEXUS_OPERATION)
    assert [row.run for row in listed.rows] == [OPERATION]
    assert await store.count_runs(NAMESPACE, None, None, RunKind.ACTIVITY) == [(None, 1)]
    assert {wakeup.run for wakeup in await store.due_wakeups(5, None, 10)} == {WORKFLOW, ACTIVITY, OPERATION}
    assert await store.delete_run(OPERATION)
    assert await store.load_run(ACTIVITY) is not None
