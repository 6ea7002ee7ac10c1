"""Conformance: writing, loading and deleting runs; versions, current runs, items, histories, wake-ups."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import pytest

from perdure.core.errors import (
    CurrentRunConflictError,
    InvariantViolation,
    StoreError,
    StoreUnavailableError,
    VersionConflictError,
)
from perdure.core.run.records import EventBatch, ItemChange, RunKey, RunWrite, TaskKey, TaskKind
from perdure.store.protocol import CurrentRun, Store, StoredRun, Wakeup
from tests.store.builders import (
    ALL_EVENTS,
    NAMESPACE,
    NO_LIMIT,
    OTHER_NAMESPACE,
    QUEUE,
    batch,
    dump,
    record,
    run_key,
    task,
    write,
)

RUN = run_key(1)


async def _history(
    store: Store, first: int = 0, end: int = ALL_EVENTS, size: int = NO_LIMIT, *, reverse: bool = False
) -> list[tuple[int, int]]:
    batches = await store.read_history(RUN, first, end, size, reverse=reverse)
    return [(found.first_event_id, found.last_event_id) for found in batches]


async def _items(store: Store) -> list[tuple[str, str, bytes]]:
    stored = await store.load_run(RUN)
    assert stored is not None
    return list(stored.items)


# --- versions


async def test_a_new_run_is_loaded_as_it_was_written(store: Store) -> None:
    items = (ItemChange("timer", "t", b"\x00"), ItemChange("activity", "a", b""))
    await store.commit([write(RUN, header=b"\x00\xff", wakeup_ns=7, items=items)])
    assert await store.load_run(RUN) == StoredRun(
        run=RUN,
        version=1,
        status=1,
        header=b"\x00\xff",
        items=(("activity", "a", b""), ("timer", "t", b"\x00")),
        wakeup_ns=7,
    )


async def test_a_later_write_replaces_header_status_and_wakeup_and_counts_the_version(store: Store) -> None:
    await store.commit([write(RUN, wakeup_ns=7)])
    await store.commit([write(RUN, 1, status=2, header=b"new", wakeup_ns=None)])
    stored = await store.load_run(RUN)
    assert stored == StoredRun(RUN, 2, 2, b"new", (), None)


@pytest.mark.parametrize("expected_version", [0, 1, 3], ids=["exists", "older", "newer"])
async def test_a_write_from_another_version_conflicts_and_leaves_no_trace(
    store: Store, expected_version: int
) -> None:
    await store.commit([write(RUN, events=(batch(1),))])
    await store.commit([write(RUN, 1, events=(batch(2),))])
    before = await dump(store, [RUN])
    stale = write(
        RUN,
        expected_version,
        events=(batch(3 if expected_version else 1),),
        items=(ItemChange("timer", "t", b""),),
        tasks_put=(task(RUN),),
        visibility=record(RUN),
        becomes_current=False,
        wakeup_ns=5,
    )
    with pytest.raises(VersionConflictError):
        await store.commit([stale])
    assert await dump(store, [RUN]) == before


async def test_a_write_to_a_run_that_is_not_there_conflicts(store: Store) -> None:
    with pytest.raises(VersionConflictError):
        await store.commit([write(RUN, 1)])
    assert await store.load_run(RUN) is None


async def test_a_run_is_found_by_its_whole_key_only(store: Store) -> None:
    await store.commit([write(RUN, events=(batch(1),))])
    for other in (RUN._replace(namespace_id=OTHER_NAMESPACE), RUN._replace(workflow_id="other"), run_key(2)):
        assert await store.load_run(other) is None
        assert list(await store.read_history(other, 0, ALL_EVENTS, NO_LIMIT)) == []
        assert await store.delete_run(other) is False
        with pytest.raises(VersionConflictError):
            await store.commit([write(other, 1)])
    assert await store.load_run(RUN) is not None


async def test_a_run_id_names_one_run_in_the_whole_store(store: Store) -> None:
    await store.commit([write(RUN)])
    for thief in (RUN._replace(workflow_id="other"), RUN._replace(namespace_id=OTHER_NAMESPACE)):
        with pytest.raises(VersionConflictError):
            await store.commit([write(thief)])
        assert await store.current_run(thief.namespace_id, "other") is None


async def test_of_writes_from_one_version_exactly_one_wins(store: Store) -> None:
    await store.commit([write(RUN)])
    rivals = [store.commit([write(RUN, 1, header=f"rival {number}".encode())]) for number in range(20)]
    outcomes = await asyncio.gather(*rivals, return_exceptions=True)
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, VersionConflictError) for outcome in outcomes) == 19
    stored = await store.load_run(RUN)
    assert stored is not None
    assert (stored.version, stored.header) == (2, f"rival {outcomes.index(None)}".encode())


async def test_a_conflict_never_fails_the_units_beside_it(store: Store) -> None:
    await store.commit([write(RUN)])
    units = [
        [write(run_key(number))] if number % 3 else [write(run_key(1_000 + number)), write(RUN, 9)]
        for number in range(2, 62)
    ]
    outcomes = await asyncio.gather(*map(store.commit, units), return_exceptions=True)
    for unit, outcome in zip(units, outcomes, strict=True):
        stored = await store.load_run(unit[0].run)
        if len(unit) == 1:
            assert outcome is None
            assert stored is not None
        else:
            assert isinstance(outcome, VersionConflictError)
            assert stored is None


# --- units of several runs


async def test_a_unit_is_written_whole(store: Store) -> None:
    following = run_key(2, RUN.workflow_id)
    await store.commit([write(RUN, events=(batch(1),))])
    await store.commit(
        [write(RUN, 1, status=6, events=(batch(2),)), write(following, expected_current_run_id=RUN.run_id)]
    )
    closed = await store.load_run(RUN)
    assert closed is not None
    assert (closed.version, closed.status) == (2, 6)
    current = await store.current_run(NAMESPACE, RUN.workflow_id)
    assert current is not None
    assert current.run == following


@pytest.mark.parametrize(
    ("second", "error"),
    [
        (write(run_key(2), 4), VersionConflictError),
        (write(run_key(2), expected_current_run_id="nobody"), CurrentRunConflictError),
        (write(run_key(2), events=(batch(5),)), InvariantViolation),
    ],
    ids=["version", "current run", "gap"],
)
async def test_a_unit_whose_second_write_fails_leaves_no_trace(
    store: Store, second: RunWrite, error: type[Exception]
) -> None:
    await store.commit([write(RUN, items=(ItemChange("timer", "t", b"1"),), visibility=record(RUN))])
    before = await dump(store, [RUN, second.run, run_key(3)])
    first = write(
        RUN,
        1,
        status=2,
        wakeup_ns=3,
        events=(batch(1),),
        items=(ItemChange("timer", "t", None), ItemChange("timer", "u", b"2")),
        tasks_put=(task(RUN),),
        visibility=record(RUN, close_ns=2_000),
    )
    with pytest.raises(error):
        await store.commit([first, write(run_key(3)), second])
    assert await dump(store, [RUN, second.run, run_key(3)]) == before
    await store.commit([first, write(run_key(3))])


async def test_writes_of_a_unit_meet_the_current_runs_the_earlier_ones_left(store: Store) -> None:
    runs = [run_key(number, "one") for number in (1, 2, 3)]
    with pytest.raises(CurrentRunConflictError):
        await store.commit([write(runs[0]), write(runs[1])])
    await store.commit(
        [
            write(run, expected_current_run_id=runs[place - 1].run_id if place else None)
            for place, run in enumerate(runs)
        ]
    )
    current = await store.current_run(NAMESPACE, "one")
    assert current is not None
    assert current.run == runs[2]


@pytest.mark.parametrize(
    "unit",
    [
        [],
        [write(RUN), write(RUN, 1)],
        [write(RUN, events=(batch(1, 2), batch(2, 3)))],
        [write(RUN, events=(batch(2),))],
        [write(RUN, events=(batch(1, 0),))],
        [write(RUN, tasks_put=(task(run_key(2)),))],
        [write(RUN, tasks_put=(task(RUN, priority_key=6),))],
    ],
    ids=["empty", "run twice", "overlap", "late start", "backwards", "foreign task", "priority"],
)
async def test_what_no_race_explains_is_refused_as_a_defect(store: Store, unit: Sequence[RunWrite]) -> None:
    before = await dump(store, [RUN])
    with pytest.raises(InvariantViolation):
        await store.commit(unit)
    assert await dump(store, [RUN]) == before


async def test_a_gap_or_overlap_with_the_stored_history_is_refused(store: Store) -> None:
    await store.commit([write(RUN, events=(batch(1, 3),))])
    for first in (1, 3, 5):
        with pytest.raises(InvariantViolation):
            await store.commit([write(RUN, 1, events=(batch(first),))])
    await store.commit([write(RUN, 1)])
    await store.commit([write(RUN, 2, events=(batch(4),))])
    assert await _history(store) == [(1, 3), (4, 4)]


# --- the current run


async def test_the_first_run_of_a_workflow_becomes_current_with_what_its_start_said(store: Store) -> None:
    await store.commit([write(RUN, start_request_id="request", first_run_id="chain")])
    assert await store.current_run(NAMESPACE, RUN.workflow_id) == CurrentRun(RUN, 1, "request", "chain")
    assert await store.current_run(NAMESPACE, "other") is None
    assert await store.current_run(OTHER_NAMESPACE, RUN.workflow_id) is None


async def test_the_current_run_shows_the_latest_status_and_keeps_what_its_start_said(store: Store) -> None:
    await store.commit([write(RUN, start_request_id="request", first_run_id="chain")])
    await store.commit([write(RUN, 1, status=4)])
    assert await store.current_run(NAMESPACE, RUN.workflow_id) == CurrentRun(RUN, 4, "request", "chain")


@pytest.mark.parametrize("expected", [None, "somebody else"])
async def test_another_current_run_than_expected_conflicts_and_leaves_no_trace(
    store: Store, expected: str | None
) -> None:
    await store.commit([write(RUN, status=2)])
    following = run_key(2, RUN.workflow_id)
    before = await dump(store, [RUN, following])
    with pytest.raises(CurrentRunConflictError):
        await store.commit([write(following, expected_current_run_id=expected, events=(batch(1),))])
    assert await dump(store, [RUN, following]) == before


async def test_expecting_a_current_run_where_none_is_conflicts(store: Store) -> None:
    with pytest.raises(CurrentRunConflictError):
        await store.commit([write(RUN, expected_current_run_id="gone")])
    assert await store.load_run(RUN) is None


async def test_a_wrong_version_is_told_before_a_wrong_current_run(store: Store) -> None:
    await store.commit([write(RUN)])
    with pytest.raises(VersionConflictError):
        await store.commit([write(RUN, 0, expected_current_run_id="wrong")])
    with pytest.raises(VersionConflictError):
        await store.commit([write(RUN, 5, becomes_current=True, expected_current_run_id="wrong")])


async def test_of_starts_for_one_workflow_id_exactly_one_wins(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(store.commit([write(run_key(number, "one"))]) for number in range(1, 20)), return_exceptions=True
    )
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, CurrentRunConflictError) for outcome in outcomes) == 18


async def test_a_run_that_does_not_become_current_leaves_the_current_one(store: Store) -> None:
    await store.commit([write(RUN)])
    await store.commit([write(run_key(2, RUN.workflow_id), becomes_current=False)])
    current = await store.current_run(NAMESPACE, RUN.workflow_id)
    assert current is not None
    assert current.run == RUN


async def test_an_existing_run_can_become_current_again(store: Store) -> None:
    following = run_key(2, RUN.workflow_id)
    await store.commit([write(RUN)])
    await store.commit([write(following, expected_current_run_id=RUN.run_id)])
    await store.commit(
        [
            write(
                RUN,
                1,
                becomes_current=True,
                expected_current_run_id=following.run_id,
                start_request_id="again",
            )
        ]
    )
    assert await store.current_run(NAMESPACE, RUN.workflow_id) == CurrentRun(RUN, 1, "again", "")
    await store.commit(
        [write(RUN, 2, becomes_current=True, expected_current_run_id=RUN.run_id, start_request_id="thrice")]
    )
    assert await store.current_run(NAMESPACE, RUN.workflow_id) == CurrentRun(RUN, 1, "thrice", "")


# --- items


async def test_items_come_by_kind_and_then_in_order_of_first_insertion(store: Store) -> None:
    await store.commit([write(RUN, items=(ItemChange("b", "z", b"1"), ItemChange("b", "a", b"2")))])
    await store.commit([write(RUN, 1, items=(ItemChange("a", "m", b"3"), ItemChange("b", "k", b"4")))])
    await store.commit([write(RUN, 2, items=(ItemChange("b", "z", b"5"),))])
    assert await _items(store) == [("a", "m", b"3"), ("b", "z", b"5"), ("b", "a", b"2"), ("b", "k", b"4")]


async def test_an_item_deleted_and_put_again_goes_last(store: Store) -> None:
    await store.commit([write(RUN, items=(ItemChange("b", "z", b"1"), ItemChange("b", "a", b"2")))])
    await store.commit([write(RUN, 1, items=(ItemChange("b", "z", None),))])
    assert await _items(store) == [("b", "a", b"2")]
    await store.commit([write(RUN, 2, items=(ItemChange("b", "z", b"3"),))])
    assert await _items(store) == [("b", "a", b"2"), ("b", "z", b"3")]


async def test_changes_of_one_item_in_one_write_take_effect_in_order(store: Store) -> None:
    changes = [b"1", None, b"2", b"3"]
    await store.commit([write(RUN, items=tuple(ItemChange("b", "z", data) for data in changes))])
    assert await _items(store) == [("b", "z", b"3")]
    await store.commit([write(RUN, 1, items=(ItemChange("b", "z", b"4"), ItemChange("b", "z", None)))])
    assert await _items(store) == []


async def test_deleting_an_item_that_is_not_there_is_no_error(store: Store) -> None:
    await store.commit([write(RUN, items=(ItemChange("b", "z", None),))])
    assert await _items(store) == []


async def test_many_and_large_items_and_odd_names_are_kept(store: Store) -> None:
    odd = RunKey(NAMESPACE, 'it\'s "odd" \x00 ünï 🚀 %_' + "x" * 900, RUN.run_id)
    items = [("kind", f"{number} ' \x00 é", b"\xff" * (number * 40)) for number in range(500)]
    await store.commit([write(odd, items=tuple(ItemChange(*item) for item in items), header=b"h" * 200_000)])
    stored = await store.load_run(odd)
    assert stored is not None
    assert list(stored.items) == items
    assert len(stored.header) == 200_000
    current = await store.current_run(NAMESPACE, odd.workflow_id)
    assert current is not None
    assert current.run == odd


# --- history


@pytest.mark.parametrize(
    ("first", "end", "expected"),
    [
        (0, ALL_EVENTS, [(1, 2), (3, 3), (4, 9), (10, 10)]),
        (1, 3, [(1, 2)]),
        (2, 4, [(1, 2), (3, 3)]),
        (5, 6, [(4, 9)]),
        (9, 11, [(4, 9), (10, 10)]),
        (4, 4, []),
        (11, ALL_EVENTS, []),
        (5, 2, []),
        (-5, 1, []),
    ],
)
async def test_history_gives_whole_batches_that_hold_wanted_events(
    store: Store, first: int, end: int, expected: list[tuple[int, int]]
) -> None:
    await store.commit([write(RUN, events=(batch(1, 2), batch(3)))])
    await store.commit([write(RUN, 1, events=(batch(4, 9),))])
    await store.commit([write(run_key(2), events=(batch(1, 20),))])
    await store.commit([write(RUN, 2, events=(batch(10),))])
    assert await _history(store, first, end) == expected
    assert await _history(store, first, end, reverse=True) == expected[::-1]


async def test_history_stops_after_the_batch_that_reaches_the_size(store: Store) -> None:
    await store.commit([write(RUN, events=tuple(batch(number, data=b"x" * 10) for number in range(1, 7)))])
    assert await _history(store, size=0) == [(1, 1)]
    assert await _history(store, size=20) == [(1, 1), (2, 2)]
    assert await _history(store, size=21) == [(1, 1), (2, 2), (3, 3)]
    assert await _history(store, size=11, reverse=True) == [(6, 6), (5, 5)]
    assert await _history(store, 4, size=1) == [(4, 4)]


async def test_history_keeps_every_byte(store: Store) -> None:
    data = bytes(range(256)) * 2_000
    await store.commit([write(RUN, events=(batch(1, data=data), batch(2, data=b"")))])
    found = list(await store.read_history(RUN, 1, 3, NO_LIMIT))
    assert found == [EventBatch(1, 1, data), EventBatch(2, 2, b"")]


# --- wake-ups


async def test_wakeups_come_in_order_up_to_the_given_time(store: Store) -> None:
    for number, wakeup_ns in enumerate([30, 10, None, 20, 40], start=1):
        await store.commit([write(run_key(number), wakeup_ns=wakeup_ns)])
    expected = [Wakeup(10, run_key(2)), Wakeup(20, run_key(4)), Wakeup(30, run_key(1))]
    assert list(await store.due_wakeups(30, None, 10)) == expected
    assert list(await store.due_wakeups(30, None, 2)) == expected[:2]
    assert list(await store.due_wakeups(30, expected[0], 10)) == expected[1:]
    assert list(await store.due_wakeups(9, None, 10)) == []


async def test_wakeups_of_one_moment_are_paged_by_run(store: Store) -> None:
    runs = sorted(
        [run_key(number) for number in range(1, 8)]
        + [run_key(number, namespace=OTHER_NAMESPACE) for number in range(11, 15)]
    )
    for run in reversed(runs):
        await store.commit([write(run, wakeup_ns=5)])
    found: list[RunKey] = []
    after: Wakeup | None = None
    while page := await store.due_wakeups(5, after, 3):
        found += [wakeup.run for wakeup in page]
        after = page[-1]
    assert found == runs


async def test_a_wakeup_follows_its_run(store: Store) -> None:
    await store.commit([write(RUN, wakeup_ns=10)])
    await store.commit([write(RUN, 1, wakeup_ns=20)])
    assert list(await store.due_wakeups(99, None, 10)) == [Wakeup(20, RUN)]
    await store.commit([write(RUN, 2, wakeup_ns=None)])
    assert list(await store.due_wakeups(99, None, 10)) == []


# --- deleting


async def test_a_deleted_run_is_gone_with_all_its_parts(store: Store) -> None:
    other = run_key(2)
    for run in (RUN, other):
        await store.commit(
            [
                write(
                    run,
                    wakeup_ns=5,
                    events=(batch(1, 2), batch(3)),
                    items=(ItemChange("timer", "t", b""),),
                    tasks_put=(task(run),),
                    visibility=record(run),
                )
            ]
        )
    assert await store.delete_run(RUN) is True
    assert await store.delete_run(RUN) is False
    left = await dump(store, [RUN, other])
    assert left[f"run {RUN}"] == (None, (), None)
    assert [waiting.run for _, waiting in await store.read_tasks(QUEUE, None, 10)] == [other]
    assert list(await store.due_wakeups(9, None, 9)) == [Wakeup(5, other)]
    assert [row.run for row in (await store.list_runs(NAMESPACE, None, 9, None)).rows] == [other]
    await store.commit([write(RUN, events=(batch(1),))])
    assert await _history(store) == [(1, 1)]


async def test_deleting_an_older_run_keeps_the_current_one(store: Store) -> None:
    following = run_key(2, RUN.workflow_id)
    await store.commit([write(RUN)])
    await store.commit([write(following, expected_current_run_id=RUN.run_id)])
    await store.delete_run(RUN)
    current = await store.current_run(NAMESPACE, RUN.workflow_id)
    assert current is not None
    assert current.run == following


async def test_deleting_the_current_run_does_not_bring_back_an_older_one(store: Store) -> None:
    following = run_key(2, RUN.workflow_id)
    await store.commit([write(RUN)])
    await store.commit([write(following, expected_current_run_id=RUN.run_id)])
    await store.delete_run(following)
    assert await store.current_run(NAMESPACE, RUN.workflow_id) is None
    await store.commit([write(run_key(3, RUN.workflow_id))])


async def test_a_write_to_a_run_deleted_meanwhile_conflicts(store: Store) -> None:
    await store.commit([write(RUN)])
    await store.commit([write(RUN, 1)])

    async def commit() -> None:
        await store.commit([write(RUN, 2)])

    _, outcome = await asyncio.gather(store.delete_run(RUN), commit(), return_exceptions=True)
    assert isinstance(outcome, VersionConflictError)
    await store.commit([write(run_key(2))])
    with pytest.raises(VersionConflictError):
        await store.commit([write(RUN, 1)])


# --- life


async def test_a_caller_that_stops_waiting_leaves_its_unit_whole(store: Store) -> None:
    unit = [write(run_key(number), items=(ItemChange("timer", "t", b""),)) for number in (1, 2)]
    waiting = asyncio.ensure_future(store.commit(unit))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await store.commit([write(run_key(3))])
    stored = [await store.load_run(found.run) for found in unit]
    assert [found is None for found in stored] in ([True, True], [False, False])


async def test_the_cluster_id_is_a_uuid_and_stays(store: Store) -> None:
    first = await store.cluster_id()
    assert str(uuid.UUID(first)) == first
    assert await store.cluster_id() == first


async def test_a_closed_store_says_that_it_is_unavailable(store: Store) -> None:
    await store.commit([write(RUN, tasks_put=(task(RUN),))])
    await store.close()
    await store.close()
    for call in (
        lambda: store.commit([write(RUN, 1)]),
        lambda: store.load_run(RUN),
        lambda: store.current_run(NAMESPACE, RUN.workflow_id),
        lambda: store.delete_run(RUN),
        lambda: store.read_history(RUN, 1, 2, 1),
        lambda: store.due_wakeups(1, None, 1),
        lambda: store.read_tasks(QUEUE, None, 1),
        lambda: store.count_tasks(QUEUE),
        lambda: store.list_runs(NAMESPACE, None, 1, None),
        lambda: store.count_runs(NAMESPACE, None, None),
        store.list_namespaces,
        lambda: store.delete_namespace(NAMESPACE),
        store.cluster_id,
        store.is_durable,
    ):
        with pytest.raises(StoreUnavailableError):
            await call()


async def test_closing_finishes_what_is_queued(store: Store) -> None:
    commits = [asyncio.ensure_future(store.commit([write(run_key(number))])) for number in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*commits, return_exceptions=True) == [None] * 50


async def test_what_was_given_or_returned_can_be_changed_without_harm(store: Store) -> None:
    given = record(RUN, attributes={"Tags": ["a"], "Size": 1})
    await store.commit([write(RUN, visibility=given)])
    given.attributes["Size"] = 2
    listed = (await store.list_runs(NAMESPACE, None, 9, None)).rows[0].record
    listed.attributes["Tags"].append("b")  # type: ignore[union-attr]
    assert (await store.list_runs(NAMESPACE, None, 9, None)).rows[0].record.attributes == {
        "Tags": ["a"],
        "Size": 1,
    }


async def test_tasks_of_a_conflicting_write_are_neither_put_nor_deleted(store: Store) -> None:
    await store.commit([write(RUN, tasks_put=(task(RUN),))])
    with pytest.raises(StoreError):
        await store.commit(
            [write(RUN, 7, tasks_deleted=(TaskKey(TaskKind.WORKFLOW, 2),), tasks_put=(task(RUN, 9),))]
        )
    assert [waiting.key.scheduled_event_id for _, waiting in await store.read_tasks(QUEUE, None, 9)] == [2]
