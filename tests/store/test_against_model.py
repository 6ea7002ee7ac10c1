"""Random operations on the database and on the model side by side: same answers, same errors, same content."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from perdure.core.errors import InvariantViolation, StoreError
from perdure.core.run.records import (
    EventBatch,
    ItemChange,
    QueueKey,
    RunKey,
    RunKind,
    RunWrite,
    Task,
    TaskKey,
    TaskKind,
)
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store, StoredNamespace, TaskCursor, Wakeup
from perdure.store.sqlite import SqliteStore
from tests.store.builders import NAMESPACE, OTHER_NAMESPACE, dump, record

RUNS = [
    *(RunKey(NAMESPACE, f"workflow-{number % 2}", f"run-{number}") for number in range(4)),
    RunKey(OTHER_NAMESPACE, "workflow-0", "run-4"),
    RunKey(OTHER_NAMESPACE, "workflow-0", "run-0"),
    RunKey(NAMESPACE, "workflow-0", "run-5", RunKind.ACTIVITY),
    RunKey(NAMESPACE, "workflow-0", "run-0", RunKind.ACTIVITY),
    RunKey(NAMESPACE, "workflow-0", "run-7", RunKind.NEXUS_OPERATION),
]
QUEUES = [QueueKey(NAMESPACE, name, kind) for name in ("a", "b") for kind in TaskKind]
SMALL = st.integers(0, 4)
CHOICE = st.integers(0, 9)


@st.composite
def _tasks(draw: st.DrawFn, run: RunKey) -> tuple[Task, ...]:
    tasks = []
    for _ in range(draw(st.integers(0, 2))):
        queue = draw(st.sampled_from(QUEUES))._replace(namespace_id=run.namespace_id)
        key = TaskKey(queue.kind, draw(st.integers(1, 3)))
        tasks.append(
            Task(run, key, queue, draw(SMALL), draw(st.integers(0, 5)), draw(st.booleans()), "delivery")
        )
    return tuple(tasks)


class StoreComparison(RuleBasedStateMachine):
    """The database against the model."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="perdure-model-"))
        self.model = MemoryStore()
        self.tested = SqliteStore(self.folder / "model.db")
        self._wait(self.tested.open())
        self.versions: dict[RunKey, tuple[int, int]] = {}
        """What a good writer would expect: version and last event id of each run."""

    def teardown(self) -> None:
        self._wait(self.tested.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def _wait(self, act: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await act

        return self.loop.run_until_complete(wait())

    def _both(self, act: Callable[[Store], Awaitable[Any]]) -> Any:
        """Does the same on both and checks that both answer the same."""
        outcomes = []
        for store in (self.model, self.tested):
            try:
                outcomes.append(self._wait(act(store)))
            except (StoreError, InvariantViolation) as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[1] == outcomes[0]
        return outcomes[0]

    def _draw_write(self, data: st.DataObject) -> RunWrite:
        run = data.draw(st.sampled_from(RUNS))
        version, last_event_id = self.versions.get(run, (0, 0))
        version += data.draw(st.sampled_from([0] * 12 + [1, -1]))
        first = last_event_id + 1 + data.draw(st.sampled_from([0] * 12 + [1, -1]))
        events = []
        for _ in range(data.draw(st.integers(0, 2))):
            last = first + data.draw(st.integers(0, 2))
            events.append(EventBatch(first, last, data.draw(st.binary(max_size=3))))
            first = last + 1
        current = self._wait(self.model.current_run(run.namespace_id, run.workflow_id, run.kind))
        expected = current.run.run_id if current else None
        if data.draw(CHOICE) == 0:
            expected = data.draw(st.sampled_from([None, "run-0", "run-1"]))
        items = st.builds(
            ItemChange,
            st.sampled_from(["b", "a"]),
            st.sampled_from(["z", "y"]),
            st.none() | st.binary(max_size=2),
        )
        keys = st.builds(TaskKey, st.sampled_from(TaskKind), st.integers(1, 3))
        close_ns = data.draw(st.none() | SMALL)
        shown = record(
            run, start_ns=data.draw(SMALL), close_ns=close_ns, attributes={"Keyword": data.draw(st.text())}
        )
        return RunWrite(
            run,
            max(version, 0),
            data.draw(st.integers(1, 7)),
            data.draw(st.binary(max_size=3)),
            data.draw(st.none() | SMALL),
            tuple(events),
            tuple(data.draw(st.lists(items, max_size=3))),
            data.draw(_tasks(run)),
            tuple(data.draw(st.lists(keys, max_size=2))),
            shown if data.draw(st.booleans()) else None,
            data.draw(st.booleans()),
            expected,
            "request",
            "first",
        )

    def _note(self) -> None:
        """Looks up what good writers expect from now on."""
        for run in RUNS:
            stored = self._wait(self.model.load_run(run))
            events = self._wait(self.model.read_history(run, 0, 1 << 20, 1 << 20))
            self.versions[run] = (stored.version if stored else 0, events[-1].last_event_id if events else 0)

    @rule(data=st.data())
    def commit_units_together(self, data: st.DataObject) -> None:
        """Units that are ready together, some of several runs, some in conflict with each other."""
        units = [
            [self._draw_write(data) for _ in range(data.draw(st.sampled_from([1, 1, 1, 2, 3])))]
            for _ in range(data.draw(st.integers(1, 4)))
        ]

        async def commit_all(store: Store) -> list[object]:
            outcomes = await asyncio.gather(*map(store.commit, units), return_exceptions=True)
            return [None if outcome is None else (type(outcome), str(outcome)) for outcome in outcomes]

        self._both(commit_all)
        self._note()

    @rule(run=st.sampled_from(RUNS))
    def delete_run(self, run: RunKey) -> None:
        self._both(lambda store: store.delete_run(run))
        self._note()

    @rule(number=st.integers(1, 2), name=st.sampled_from(["x", "y"]), version=st.integers(1, 3))
    def put_namespace(self, number: int, name: str, version: int) -> None:
        self._both(
            lambda store: store.put_namespace(StoredNamespace(f"id-{number}", name, version, b"config"))
        )

    @rule(number=st.integers(1, 2))
    def delete_namespace(self, number: int) -> None:
        self._both(lambda store: store.delete_namespace(f"id-{number}"))

    @rule(
        run=st.sampled_from(RUNS),
        first=SMALL,
        end=st.integers(0, 12),
        size=st.integers(0, 8),
        reverse=st.booleans(),
    )
    def read_history(self, run: RunKey, first: int, end: int, size: int, reverse: bool) -> None:
        self._both(lambda store: store.read_history(run, first, end, size, reverse=reverse))

    @rule(run=st.sampled_from(RUNS), after_ns=SMALL, until_ns=SMALL, limit=st.integers(1, 4))
    def due_wakeups(self, run: RunKey, after_ns: int, until_ns: int, limit: int) -> None:
        self._both(lambda store: store.due_wakeups(until_ns, Wakeup(after_ns, run), limit))

    @rule(queue=st.sampled_from(QUEUES), place=st.integers(0, 3), limit=st.integers(1, 3))
    def read_tasks_after(self, queue: QueueKey, place: int, limit: int) -> None:
        """Both stores continue after the task at the same place; cursors themselves differ."""

        async def read(store: Store) -> list[Task]:
            cursors: list[TaskCursor | None] = [None]
            cursors += [cursor for cursor, _ in await store.read_tasks(queue, None, 100)]
            return [
                waiting for _, waiting in await store.read_tasks(queue, cursors[place % len(cursors)], limit)
            ]

        self._both(read)

    @rule(size=st.integers(1, 3))
    def list_in_pages(self, size: int) -> None:
        async def read(store: Store) -> list[object]:
            first = await store.list_runs(NAMESPACE, None, size, None)
            if first.next_cursor is None:
                return [first]
            return [first, await store.list_runs(NAMESPACE, None, size, first.next_cursor)]

        self._both(read)

    @rule()
    def reopen(self) -> None:
        """A restart of the process changes nothing."""
        self._wait(self.tested.close())
        self.tested = SqliteStore(self.folder / "model.db")
        self._wait(self.tested.open())

    @invariant()
    def same_content(self) -> None:
        self._both(lambda store: dump(store, RUNS, QUEUES))


TestStoreComparison = StoreComparison.TestCase
TestStoreComparison.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
