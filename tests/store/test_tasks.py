"""Conformance: task queues; order, paging, replacement, counting."""

from __future__ import annotations

import asyncio

from perdure.core.run.records import QueueKey, Task, TaskKey, TaskKind
from perdure.store.protocol import Store, TaskCursor
from tests.store.builders import NAMESPACE, OTHER_NAMESPACE, QUEUE, run_key, task, write

RUN = run_key(1)
ACTIVITIES = QUEUE._replace(kind=TaskKind.ACTIVITY)


async def _waiting(store: Store, queue: QueueKey = QUEUE, limit: int = 100) -> list[Task]:
    return [waiting for _, waiting in await store.read_tasks(queue, None, limit)]


async def test_a_task_is_read_as_it_was_put(store: Store) -> None:
    tasks = [
        task(RUN, 2, delivery_id="x", enqueued_ns=77, sticky=True),
        task(RUN, 5, ACTIVITIES, priority_key=5),
        task(RUN, 6, ACTIVITIES, delivery_id=""),
    ]
    await store.commit([write(RUN, tasks_put=tuple(tasks))])
    assert await _waiting(store) == tasks[:1]
    assert await _waiting(store, ACTIVITIES) == [tasks[2], tasks[1]]


async def test_tasks_come_by_priority_and_then_in_order_of_arrival(store: Store) -> None:
    priorities = [0, 5, 1, 3, 2, 0, 1]
    for number, priority_key in enumerate(priorities, start=1):
        run = run_key(number)
        await store.commit([write(run, tasks_put=(task(run, priority_key=priority_key),))])
    order = [int(waiting.run.run_id[-2:]) for waiting in await _waiting(store)]
    assert order == [3, 7, 5, 1, 4, 6, 2]
    assert await _waiting(store, limit=2) == (await _waiting(store))[:2]


async def test_tasks_of_one_write_keep_their_order(store: Store) -> None:
    await store.commit([write(RUN, tasks_put=tuple(task(RUN, event, ACTIVITIES) for event in (9, 5, 7)))])
    assert [waiting.key.scheduled_event_id for waiting in await _waiting(store, ACTIVITIES)] == [9, 5, 7]


async def test_tasks_that_are_ready_together_come_in_the_order_of_their_commits(store: Store) -> None:
    runs = [run_key(number) for number in range(1, 41)]
    await asyncio.gather(*(store.commit([write(run, tasks_put=(task(run),))]) for run in runs))
    assert [waiting.run for waiting in await _waiting(store)] == runs


async def test_pages_of_tasks_lose_none_and_show_newcomers_of_the_same_priority_last(store: Store) -> None:
    runs = [run_key(number) for number in range(1, 8)]
    for run in runs[:5]:
        await store.commit([write(run, tasks_put=(task(run),))])
    page = await store.read_tasks(QUEUE, None, 3)
    assert [waiting.run for _, waiting in page] == runs[:3]
    await store.commit([write(runs[1], 1, tasks_deleted=(task(runs[1]).key,))])
    await store.commit([write(runs[2], 1, tasks_deleted=(task(runs[2]).key,))])
    await store.commit([write(runs[3], 1, tasks_deleted=(task(runs[3]).key,))])
    for run in runs[5:]:
        await store.commit([write(run, tasks_put=(task(run),))])
    page = await store.read_tasks(QUEUE, page[-1][0], 9)
    assert [waiting.run for _, waiting in page] == [runs[4], *runs[5:]]
    assert list(await store.read_tasks(QUEUE, page[-1][0], 9)) == []


async def test_a_newcomer_never_hides_behind_a_cursor_even_when_all_before_it_are_gone(store: Store) -> None:
    await store.commit([write(RUN, tasks_put=(task(RUN),))])
    cursor = (await store.read_tasks(QUEUE, None, 1))[0][0]
    await store.commit([write(RUN, 1, tasks_deleted=(task(RUN).key,))])
    await store.commit([write(RUN, 2, tasks_put=(task(RUN, 8),))])
    assert [waiting.key.scheduled_event_id for _, waiting in await store.read_tasks(QUEUE, cursor, 9)] == [8]


async def test_a_cursor_is_a_place_even_where_no_task_is(store: Store) -> None:
    await store.commit([write(RUN, tasks_put=(task(RUN, priority_key=2),))])
    assert len(await store.read_tasks(QUEUE, TaskCursor(1, 0, 1 << 60), 9)) == 1
    assert len(await store.read_tasks(QUEUE, TaskCursor(2, 0, 1 << 60), 9)) == 0


async def test_a_put_replaces_the_task_of_its_key_and_sends_it_to_the_end(store: Store) -> None:
    sticky = QUEUE._replace(name="sticky")
    first, second = run_key(1), run_key(2)
    for run in (first, second):
        await store.commit([write(run, tasks_put=(task(run),))])
    await store.commit([write(first, 1, tasks_put=(task(first, delivery_id="again"),))])
    assert await _waiting(store) == [task(second), task(first, delivery_id="again")]
    await store.commit([write(second, 1, tasks_put=(task(second, queue=sticky),))])
    assert await _waiting(store) == [task(first, delivery_id="again")]
    assert await _waiting(store, sticky) == [task(second, queue=sticky)]


async def test_deletions_of_a_write_come_before_its_puts(store: Store) -> None:
    await store.commit([write(RUN, tasks_put=(task(RUN),))])
    again = task(RUN, delivery_id="again")
    await store.commit([write(RUN, 1, tasks_deleted=(again.key,), tasks_put=(again,))])
    assert await _waiting(store) == [again]


async def test_deleting_is_by_run_kind_and_event_and_forgives_what_is_not_there(store: Store) -> None:
    other = run_key(2)
    await store.commit([write(other, tasks_put=(task(other, 5, ACTIVITIES),))])
    await store.commit([write(RUN, tasks_put=(task(RUN, 5, ACTIVITIES), task(RUN, 6, ACTIVITIES)))])
    deleted = (TaskKey(TaskKind.WORKFLOW, 5), TaskKey(TaskKind.ACTIVITY, 6), TaskKey(TaskKind.ACTIVITY, 99))
    await store.commit([write(RUN, 1, tasks_deleted=deleted)])
    assert await _waiting(store, ACTIVITIES) == [task(other, 5, ACTIVITIES), task(RUN, 5, ACTIVITIES)]


async def test_queues_are_told_apart_by_namespace_name_and_kind(store: Store) -> None:
    queues = [
        QUEUE,
        ACTIVITIES,
        QUEUE._replace(name="Orders"),
        QUEUE._replace(name="orders "),
        QueueKey(OTHER_NAMESPACE, "orders", TaskKind.WORKFLOW),
    ]
    for number, queue in enumerate(queues, start=1):
        run = run_key(number, namespace=queue.namespace_id)
        await store.commit([write(run, tasks_put=(task(run, queue=queue),))])
    for number, queue in enumerate(queues, start=1):
        assert [waiting.run.run_id for waiting in await _waiting(store, queue)] == [run_key(number).run_id]
    assert await _waiting(store, QueueKey(NAMESPACE, "nobody", TaskKind.WORKFLOW)) == []


async def test_counting_gives_number_and_age_of_the_oldest(store: Store) -> None:
    assert list(await store.count_tasks(QUEUE)) == []
    for number, (enqueued_ns, priority_key) in enumerate([(50, 0), (30, 3), (40, 1), (45, 1)], start=1):
        run = run_key(number)
        waiting = task(run, enqueued_ns=enqueued_ns, priority_key=priority_key)
        await store.commit([write(run, tasks_put=(waiting,))])
    assert list(await store.count_tasks(QUEUE)) == [(1, 2, 40), (3, 2, 30)]
    assert list(await store.count_tasks(ACTIVITIES)) == []


async def test_within_a_priority_tasks_come_by_place_and_then_in_order_of_arrival(store: Store) -> None:
    places = [(3, 70), (3, 20), (1, 90), (3, 20), (3, 0), (1, 5)]
    for number, (priority_key, place) in enumerate(places, start=1):
        run = run_key(number)
        waiting = task(run, priority_key=priority_key, place=place, fairness_key="k", fairness_weight=2.5)
        await store.commit([write(run, tasks_put=(waiting,))])
    assert [int(waiting.run.run_id[-2:]) for waiting in await _waiting(store)] == [6, 3, 5, 2, 4, 1]
    assert {(waiting.fairness_key, waiting.fairness_weight) for waiting in await _waiting(store)} == {
        ("k", 2.5)
    }
    page = await store.read_tasks(QUEUE, None, 4)
    rest = await store.read_tasks(QUEUE, page[-1][0], 9)
    assert [waiting.place for _, waiting in (*page, *rest)] == [5, 90, 0, 20, 20, 70]


async def test_levels_tell_the_first_place_and_where_the_keys_of_the_last_tasks_end(store: Store) -> None:
    places = [(3, 70, "a"), (3, 20, "b"), (3, 80, "b"), (3, 10, "c"), (1, 5, "")]
    for number, (priority_key, place, key) in enumerate(places, start=1):
        run = run_key(number)
        waiting = task(run, priority_key=priority_key, place=place, fairness_key=key)
        await store.commit([write(run, tasks_put=(waiting,))])
    assert list(await store.task_levels(QUEUE, 10)) == [(1, 5, {"": 5}), (3, 10, {"a": 70, "b": 80, "c": 10})]
    assert list(await store.task_levels(QUEUE, 2)) == [(1, 5, {"": 5}), (3, 10, {"a": 70, "b": 80})]
    assert list(await store.task_levels(ACTIVITIES, 2)) == []
