"""What of a queue's tasks is in memory: a beginning of the queue, whatever comes and goes while it is read."""

from __future__ import annotations

from bisect import insort

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.run.records import QueueKey, RunKey, Task, TaskKey, TaskKind
from perdure.server.engine.backlog import HEAD, Backlog, level_of
from perdure.store.protocol import TaskCursor

QUEUE = QueueKey("namespace", "q", TaskKind.ACTIVITY)


def _task(number: int, place: int = 0, level: int = 0) -> Task:
    return Task(
        RunKey("namespace", "w", "r"), TaskKey(TaskKind.ACTIVITY, number), QUEUE, 1, level, place=place
    )


class _Store:
    """The stored tasks in their order."""

    def __init__(self, head: int = HEAD) -> None:
        self.rows: list[tuple[TaskCursor, Task]] = []
        self._head = head
        self._puts = 0

    def put(self, task: Task) -> None:
        self._puts += 1
        insort(self.rows, (TaskCursor(level_of(task), task.place, self._puts), task))

    def first(self) -> list[tuple[TaskCursor, Task]]:
        return self.rows[: self._head]

    def delete(self, task: Task) -> None:
        self.rows = [row for row in self.rows if row[1] is not task]


def _drain(backlog: Backlog, store: _Store) -> list[int]:
    """Gives everything out as matching does, and returns the numbers in order."""
    order: list[int] = []
    while True:
        while not backlog and backlog.more_in_store:
            backlog.begin_load()
            backlog.load(store.first())
        task = next(backlog.heads(), None)
        if task is None:
            return order
        backlog.take(task)
        store.delete(task)
        order.append(task.key.scheduled_event_id)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0, 1, 5])), max_size=60),
    st.integers(2, 8),
    st.data(),
)
def test_tasks_come_out_in_the_order_of_the_store_whenever_they_came(
    arrivals: list[tuple[int, int]], head: int, data: st.DataObject
) -> None:
    """Small heads, so that reading, shortening and tasks behind the horizon all happen."""
    backlog, store, given_out = Backlog(head), _Store(head), 0
    for number, (place, level) in enumerate(arrivals):
        action = data.draw(
            st.sampled_from(["offer", "offer while read, seen", "offer while read, unseen", "take"])
        )
        task = _task(number, place, level)
        if action == "take" and (first := next(backlog.heads(), None)) is not None:
            assert (level_of(first), first.place) == min((c.priority, c.place) for c, _ in store.rows)
            backlog.take(first)
            store.delete(first)
            given_out += 1
        if "read" in action and not backlog and backlog.more_in_store:
            backlog.begin_load()
            read = store.first()
            store.put(task)
            backlog.add(task)
            backlog.load(store.first() if action.endswith(", seen") else read)
        else:
            store.put(task)
            backlog.add(task)
    waiting = [(level_of(task), task.place) for _, task in store.rows]
    places = {task.key.scheduled_event_id: (level_of(task), task.place) for _, task in store.rows}
    order = _drain(backlog, store)
    assert [places[number] for number in order] == waiting
    assert len(order) == len(set(order)) == len(arrivals) - given_out


def test_an_urgent_task_that_comes_while_the_store_is_read_is_there_once() -> None:
    """Its place is before everything that was read last time; the read sees it as well."""
    backlog, store = Backlog(2), _Store(2)
    for number in range(4):
        store.put(_task(number))
    backlog.begin_load()
    backlog.load(store.first())
    for number in range(2):
        first = next(backlog.heads())
        assert first.key.scheduled_event_id == number
        backlog.take(first)
        store.delete(first)
    backlog.begin_load()
    urgent = _task(9, level=1)
    store.put(urgent)
    backlog.add(urgent)
    backlog.load(store.first())
    assert _drain(backlog, store) == [9, 2, 3]


def test_an_urgent_task_does_not_wait_behind_what_is_in_memory() -> None:
    backlog, store = Backlog(), _Store()
    for number in range(3 * HEAD):
        store.put(_task(number, place=10 * number))
    backlog.begin_load()
    backlog.load(store.first())
    late, fair = _task(9_001, level=1), _task(9_002, place=5)
    for task in (late, fair):
        store.put(task)
        backlog.add(task)
    assert _drain(backlog, store)[:4] == [9_001, 0, 9_002, 1]


def test_memory_has_a_bound_and_keeps_what_nobody_else_has() -> None:
    backlog, store = Backlog(), _Store()
    backlog.begin_load()
    backlog.load([])
    only_here = _task(0, place=10**9)
    backlog.add(only_here, is_stored=False)
    for number in range(1, 5 * HEAD):
        task = _task(number, place=number)
        store.put(task)
        backlog.add(task)
        assert len(backlog) <= 2 * HEAD + 1
    assert len(_drain(backlog, store)) == 5 * HEAD


def test_more_tasks_than_memory_takes_may_come_while_the_store_is_read() -> None:
    backlog, store = Backlog(), _Store()
    backlog.begin_load()
    for number in range(3 * HEAD):
        task = _task(number, place=number)
        store.put(task)
        backlog.add(task)
    backlog.load([])
    assert _drain(backlog, store) == list(range(3 * HEAD))
