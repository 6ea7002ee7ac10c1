"""Every method failing before it acts, failing after it acts, and the N-th call of a whole story failing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.core.errors import StoreUnavailableError, VersionConflictError
from perdure.core.run.records import ItemChange, RunWrite
from perdure.core.visibility import Attribute, AttributeType, OrderBy
from perdure.store.faults import Call, Fault, FaultyStore, fail_call, fail_method
from perdure.store.memory import MemoryStore
from perdure.store.protocol import (
    BatchKey,
    ScheduleKey,
    Store,
    StoredBatch,
    StoredDeployment,
    StoredEndpoint,
    StoredNamespace,
    StoredQueueConfig,
    StoredSchedule,
)
from perdure.store.sqlite import SqliteStore
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

RUN, NEW = run_key(1), run_key(2)
DEFAULT = StoredNamespace(NAMESPACE, "default", 1, b"")
OTHER = StoredNamespace(OTHER_NAMESPACE, "other", 1, b"")
SCHEDULE = StoredSchedule(ScheduleKey(NAMESPACE, "nightly"), 1, 5, b"entry", b"data")
ORDER = OrderBy(Attribute("StartTime", AttributeType.DATETIME), descending=True)
BATCH = StoredBatch(BatchKey(NAMESPACE, "job"), 1, 5, None, b"entry", b"data")
OTHER_BATCH = StoredBatch(BatchKey(NAMESPACE, "other job"), 1, 5, 6, b"entry", b"data")
OTHER_SCHEDULE = StoredSchedule(ScheduleKey(NAMESPACE, "weekly"), 1, None, b"entry", b"data")

INNER: dict[str, Callable[[Path], Store]] = {
    "memory": lambda folder: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(folder / "faults.db"),
}

_UNIT = [
    write(
        RUN,
        1,
        status=2,
        wakeup_ns=9,
        events=(batch(2),),
        items=(ItemChange("timer", "t", None),),
        tasks_deleted=(task(RUN).key,),
        visibility=record(RUN, close_ns=5_000),
    ),
    write(NEW, events=(batch(1, 3),), tasks_put=(task(NEW),), visibility=record(NEW)),
]

DEPLOYMENT = StoredDeployment("namespace id", "deployment", 1, b"data")
ENDPOINT = StoredEndpoint("endpoint id", "endpoint", 1, b"data")
OTHER_ENDPOINT = StoredEndpoint("other id", "other", 1, b"data")

CALLS: dict[str, Callable[[Store], Awaitable[Any]]] = {
    "commit": lambda store: store.commit(_UNIT),
    "delete_run": lambda store: store.delete_run(RUN),
    "put_namespace": lambda store: store.put_namespace(OTHER),
    "delete_namespace": lambda store: store.delete_namespace(NAMESPACE),
    "load_run": lambda store: store.load_run(RUN),
    "current_run": lambda store: store.current_run(NAMESPACE, RUN.workflow_id),
    "read_history": lambda store: store.read_history(RUN, 1, ALL_EVENTS, NO_LIMIT),
    "due_wakeups": lambda store: store.due_wakeups(NO_LIMIT, None, 10),
    "read_tasks": lambda store: store.read_tasks(QUEUE, None, 10),
    "count_tasks": lambda store: store.count_tasks(QUEUE),
    "list_runs": lambda store: store.list_runs(NAMESPACE, None, 10, None),
    "count_runs": lambda store: store.count_runs(NAMESPACE, None, None),
    "purge_attribute": lambda store: store.purge_attribute(NAMESPACE, "Customer", 10),
    "list_runs_ordered": lambda store: store.list_runs_ordered(NAMESPACE, None, ORDER, 10, None),
    "list_namespaces": lambda store: store.list_namespaces(),
    "put_schedule": lambda store: store.put_schedule(OTHER_SCHEDULE),
    "load_schedule": lambda store: store.load_schedule(SCHEDULE.key),
    "delete_schedule": lambda store: store.delete_schedule(SCHEDULE.key),
    "due_schedules": lambda store: store.due_schedules(NO_LIMIT, None, 10),
    "list_schedules": lambda store: store.list_schedules(NAMESPACE, "", 10),
    "task_levels": lambda store: store.task_levels(QUEUE, 10),
    "list_queue_configs": lambda store: store.list_queue_configs(),
    "put_queue_config": lambda store: store.put_queue_config(StoredQueueConfig(QUEUE, 1, b"")),
    "delete_queue_config": lambda store: store.delete_queue_config(QUEUE._replace(name="configured")),
    "list_deployments": lambda store: store.list_deployments(),
    "put_deployment": lambda store: store.put_deployment(StoredDeployment("namespace id", "other", 1, b"")),
    "delete_deployment": lambda store: store.delete_deployment("namespace id", "deployment"),
    "list_endpoints": lambda store: store.list_endpoints(),
    "put_endpoint": lambda store: store.put_endpoint(OTHER_ENDPOINT),
    "delete_endpoint": lambda store: store.delete_endpoint(ENDPOINT.endpoint_id),
    "put_batch": lambda store: store.put_batch(OTHER_BATCH),
    "load_batch": lambda store: store.load_batch(BATCH.key),
    "delete_batch": lambda store: store.delete_batch(BATCH.key),
    "list_batches": lambda store: store.list_batches(NAMESPACE, None, 10),
    "cluster_id": lambda store: store.cluster_id(),
    "is_durable": lambda store: store.is_durable(),
}
WRITES = (
    "commit",
    "delete_run",
    "purge_attribute",
    "put_namespace",
    "delete_namespace",
    "put_schedule",
    "delete_schedule",
    "put_batch",
    "delete_batch",
    "put_endpoint",
    "delete_endpoint",
    "put_queue_config",
    "delete_queue_config",
    "put_deployment",
    "delete_deployment",
)


@pytest.fixture(params=INNER)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FaultyStore:
    """Each implementation, wrapped."""
    return FaultyStore(INNER[request.param](tmp_path))


async def _prepare(store: Store) -> None:
    await store.put_namespace(DEFAULT)
    await store.put_schedule(SCHEDULE)
    await store.put_batch(BATCH)
    await store.put_endpoint(ENDPOINT)
    await store.put_queue_config(StoredQueueConfig(QUEUE._replace(name="configured"), 1, b""))
    await store.put_deployment(DEPLOYMENT)
    await store.commit(
        [
            write(
                RUN,
                wakeup_ns=5,
                events=(batch(1),),
                items=(ItemChange("timer", "t", b"1"),),
                tasks_put=(task(RUN),),
                visibility=record(RUN, attributes={"Customer": "a"}),
            )
        ]
    )


async def _seen(store: FaultyStore) -> dict[str, object]:
    return await dump(store.inner, [RUN, NEW])


def test_every_method_that_can_fail_is_tried() -> None:
    methods = {name for name in vars(Store) if not name.startswith("_")} - {"open", "close"}
    assert set(CALLS) == methods


@pytest.mark.parametrize("method", CALLS)
async def test_a_call_that_fails_before_it_acts_leaves_no_trace(store: FaultyStore, method: str) -> None:
    await _prepare(store)
    before = await _seen(store)
    store.calls.clear()
    store.decide = fail_method(method, Fault.BEFORE)
    with pytest.raises(StoreUnavailableError):
        await CALLS[method](store)
    assert await _seen(store) == before
    await CALLS[method](store)
    assert (await _seen(store) != before) == (method in WRITES)


@pytest.mark.parametrize("method", CALLS)
async def test_a_call_that_fails_after_it_acted_leaves_the_whole_effect(
    store: FaultyStore, method: str, tmp_path: Path
) -> None:
    model = MemoryStore()
    await _prepare(model)
    await CALLS[method](model)
    await _prepare(store)
    store.calls.clear()
    store.decide = fail_method(method, Fault.AFTER)
    with pytest.raises(StoreUnavailableError):
        await CALLS[method](store)
    assert await _seen(store) == await dump(model, [RUN, NEW])


async def test_faults_are_decided_from_the_method_and_the_numbers_of_the_call(store: FaultyStore) -> None:
    calls: list[Call] = []

    def decide(call: Call) -> Fault:
        calls.append(call)
        return Fault.NONE

    store.decide = decide
    await store.load_run(RUN)
    await store.list_namespaces()
    await store.load_run(RUN)
    assert calls == [Call("load_run", 1, 1), Call("list_namespaces", 2, 1), Call("load_run", 3, 2)]


# --- a story in which any call may fail


async def _persist(store: Store, unit: list[RunWrite]) -> None:
    """Writes a unit as the engine does: after a failure it reads again before it decides anything."""
    for _ in range(3):
        try:
            await store.commit(unit)
            return
        except VersionConflictError:
            return
        except StoreUnavailableError:
            stored = await _again(lambda: store.load_run(unit[0].run))
            if stored is not None and stored.version > unit[0].expected_version:
                return
    raise AssertionError("one fault takes one repetition")


async def _again(act: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await act()
    except StoreUnavailableError:
        return await act()


async def _story(store: Store) -> None:
    """Two chains of runs, worked on in turn, one of which is deleted."""
    await _again(store.list_namespaces)
    for number in (1, 2):
        run, following = run_key(number), run_key(number + 10, f"workflow-{number}")
        await _persist(
            store,
            [
                write(
                    run,
                    wakeup_ns=number,
                    events=(batch(1, 2),),
                    tasks_put=(task(run),),
                    visibility=record(run),
                )
            ],
        )
        await _persist(
            store, [write(run, 1, tasks_deleted=(task(run).key,), items=(ItemChange("timer", "t", b"1"),))]
        )
        await _again(lambda run=run: store.read_history(run, 1, ALL_EVENTS, NO_LIMIT))  # type: ignore[misc]
        await _persist(
            store,
            [
                write(run, 2, status=6, events=(batch(3),), visibility=record(run, close_ns=50)),
                write(
                    following, expected_current_run_id=run.run_id, visibility=record(following), wakeup_ns=7
                ),
            ],
        )
        await _persist(
            store, [write(following, 1, events=(batch(1),), items=(ItemChange("timer", "u", b"2"),))]
        )
    await _again(lambda: store.delete_run(run_key(1)))
    await _again(lambda: store.list_runs(NAMESPACE, None, 10, None))


STORY_RUNS = [run_key(number) for number in (1, 2)] + [
    run_key(number + 10, f"workflow-{number}") for number in (1, 2)
]


async def _calls_of_the_story() -> int:
    counted = FaultyStore(MemoryStore())
    await _story(counted)
    return sum(counted.calls.values())


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
@pytest.mark.parametrize("inner", INNER)
async def test_whichever_call_of_a_story_fails_it_ends_the_same(
    fault: Fault, inner: str, tmp_path: Path
) -> None:
    """The sweep: call 1 fails, then call 2 in a fresh store, and so on; nothing is lost and nothing done twice."""
    model = MemoryStore()
    await _story(model)
    expected = await dump(model, STORY_RUNS)
    calls = await _calls_of_the_story()
    assert calls >= 13
    for number in range(1, calls + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        store = FaultyStore(INNER[inner](folder), fail_call(number, fault))
        await store.open()
        await _story(store)
        store.decide = lambda call: Fault.NONE
        assert await dump(store, STORY_RUNS) == expected, f"call {number} failed {fault.value} it acted"
        assert sum(store.calls.values()) > calls
        await store.close()
