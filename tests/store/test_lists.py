"""Conformance: lists, filters, counts and their pages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from perdure.core.errors import InvalidArgumentError
from perdure.core.run.records import AttributeValue, RunKey, Text, VisibilityRecord
from perdure.core.visibility import (
    And,
    Attribute,
    AttributeType,
    Between,
    Comparison,
    ContainsAny,
    InList,
    IsNull,
    Node,
    Not,
    Operator,
    Or,
    OrderBy,
    StartsWith,
)
from perdure.store.memory import MemoryStore
from perdure.store.protocol import ListedRun, Store
from perdure.store.sqlite import SqliteStore, plans
from tests.store.builders import NAMESPACE, OTHER_NAMESPACE, batch, record, run_key, write

STATUS = Attribute("ExecutionStatus", AttributeType.KEYWORD)
TYPE = Attribute("WorkflowType", AttributeType.KEYWORD)


async def _add(store: Store, number: int, **fields: object) -> RunKey:
    run = run_key(number)
    await store.commit([write(run, visibility=record(run, **fields))])  # type: ignore[arg-type]
    return run


async def _numbers(store: Store, where: Node | None = None, namespace: str = NAMESPACE) -> list[int]:
    page = await store.list_runs(namespace, where, 1_000, None)
    assert page.next_cursor is None
    return [int(row.run.run_id[-6:]) for row in page.rows]


# --- order and pages


async def test_lists_show_open_runs_first_and_then_the_newest(store: Store) -> None:
    await _add(store, 1, start_ns=10, close_ns=90)
    await _add(store, 2, start_ns=20)
    await _add(store, 3, start_ns=30, close_ns=80)
    await _add(store, 5, start_ns=40)
    await _add(store, 4, start_ns=40)
    await _add(store, 6, start_ns=50, close_ns=80)
    assert await _numbers(store) == [4, 5, 2, 1, 6, 3]


async def test_a_listed_run_is_shown_as_it_was_written(store: Store) -> None:
    run = run_key(1)
    written = VisibilityRecord(
        workflow_type="Type é",
        task_queue="queue",
        status=3,
        start_time_ns=1,
        execution_time_ns=2,
        close_time_ns=1_700_000_000_123_456_789,
        history_length=4,
        history_size_bytes=5,
        state_transition_count=6,
        parent_workflow_id="parent",
        parent_run_id="parent run",
        root_workflow_id="root",
        root_run_id="root run",
        memo=b"\x00memo\xff",
        search_attributes=b"\xff",
        attributes={
            "Text": "Ünï 'quoted' \"double\" \\ \u0000 🚀",
            "No": False,
            "Int": -(1 << 63),
            "Double": 1e300,
            "Tags": ["a", "b"],
            "odd name '\"$.[0]": "x",
        },
    )
    await store.commit([write(run, visibility=written)])
    page = await store.list_runs(NAMESPACE, None, 10, None)
    assert list(page.rows) == [ListedRun(run, written)]


async def test_a_run_without_a_list_row_is_not_listed(store: Store) -> None:
    await store.commit([write(run_key(1))])
    assert await _numbers(store) == []


async def test_a_later_row_replaces_the_earlier_and_moves_the_run(store: Store) -> None:
    run = await _add(store, 1, start_ns=10)
    await _add(store, 2, start_ns=5)
    await store.commit(
        [write(run, 1, visibility=record(run, start_ns=10, close_ns=20, workflow_type="Other"))]
    )
    assert await _numbers(store) == [2, 1]
    assert await _numbers(store, Comparison(TYPE, Operator.EQUAL, "Other")) == [1]
    await store.commit([write(run, 2)])
    assert await _numbers(store) == [2, 1]


async def test_namespaces_do_not_see_each_other(store: Store) -> None:
    await _add(store, 1)
    other = run_key(2, namespace=OTHER_NAMESPACE)
    await store.commit([write(other, visibility=record(other))])
    assert await _numbers(store) == [1]
    assert await _numbers(store, namespace=OTHER_NAMESPACE) == [2]
    assert await _numbers(store, namespace="nobody") == []
    by_id = Comparison(Attribute("WorkflowId", AttributeType.KEYWORD), Operator.EQUAL, other.workflow_id)
    assert await _numbers(store, by_id) == []
    by_run = Comparison(Attribute("RunId", AttributeType.KEYWORD), Operator.EQUAL, other.run_id)
    assert await _numbers(store, by_run) == []


async def test_all_runs_of_a_workflow_id_are_found_by_it(store: Store) -> None:
    runs = [run_key(number, "one") for number in (1, 2, 3)]
    for place, run in enumerate(runs):
        expected = runs[place - 1].run_id if place else None
        shown = record(run, start_ns=place, close_ns=None if place == 2 else place + 10)
        await store.commit([write(run, expected_current_run_id=expected, visibility=shown)])
    await _add(store, 4)
    by_id = Comparison(Attribute("WorkflowId", AttributeType.KEYWORD), Operator.EQUAL, "one")
    assert await _numbers(store, by_id) == [3, 2, 1]


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 50])
async def test_pages_put_together_are_the_whole_list(store: Store, page_size: int) -> None:
    chooser = random.Random(1)
    for number in range(1, 24):
        start_ns, close_ns = chooser.randrange(3), chooser.choice([None, 5, 6])
        await _add(store, number, start_ns=start_ns, close_ns=close_ns)
    whole = await _numbers(store)
    found: list[int] = []
    cursor: bytes | None = None
    while True:
        page = await store.list_runs(NAMESPACE, None, page_size, cursor)
        found += [int(row.run.run_id[-6:]) for row in page.rows]
        assert len(page.rows) == page_size or page.next_cursor is None
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == whole


async def test_pages_stay_put_while_runs_come_close_and_go(store: Store) -> None:
    for number in range(1, 9):
        await _add(store, number, start_ns=number * 10, close_ns=None if number > 4 else 1_000 + number)
    first = await store.list_runs(NAMESPACE, None, 5, None)
    assert [row.run.run_id for row in first.rows] == [run_key(number).run_id for number in (8, 7, 6, 5, 4)]
    await _add(store, 9, start_ns=500)
    await _add(store, 10, start_ns=1, close_ns=5_000)
    await store.delete_run(run_key(4))
    await store.delete_run(run_key(2))
    second = await store.list_runs(NAMESPACE, None, 5, first.next_cursor)
    assert [row.run for row in second.rows] == [run_key(3), run_key(1)]


@pytest.mark.parametrize(
    "cursor", [b"x", b"\x00" * 40, b"\x02" + b"\x00" * 40, b"\x01" + b"\x00" * 16, b"\x01" + b"\xff" * 40]
)
async def test_a_cursor_that_is_not_ours_is_an_invalid_argument(store: Store, cursor: bytes) -> None:
    await _add(store, 1)
    with pytest.raises(InvalidArgumentError):
        await store.list_runs(NAMESPACE, None, 5, cursor)


# --- filters


async def test_filters_on_pages_skip_what_does_not_match(store: Store) -> None:
    for number in range(1, 31):
        await _add(store, number, start_ns=number, workflow_type="A" if number % 3 else "B")
    where = Comparison(TYPE, Operator.EQUAL, "B")
    page = await store.list_runs(NAMESPACE, where, 6, None)
    rest = await store.list_runs(NAMESPACE, where, 6, page.next_cursor)
    assert [int(row.run.run_id[-6:]) for row in (*page.rows, *rest.rows)] == list(range(30, 0, -3))
    assert rest.next_cursor is None


CUSTOM = {
    "Keyword": AttributeType.KEYWORD,
    "Text": AttributeType.TEXT,
    "Int": AttributeType.INT,
    "Double": AttributeType.DOUBLE,
    "Bool": AttributeType.BOOL,
    "Datetime": AttributeType.DATETIME,
    "Tags": AttributeType.KEYWORD_LIST,
    'it\'s "odd" $.': AttributeType.KEYWORD,
    "TemporalNamespaceDivision": AttributeType.KEYWORD,
}
SYSTEM = {
    "WorkflowId": AttributeType.KEYWORD,
    "RunId": AttributeType.KEYWORD,
    "WorkflowType": AttributeType.KEYWORD,
    "StartTime": AttributeType.DATETIME,
    "ExecutionTime": AttributeType.DATETIME,
    "CloseTime": AttributeType.DATETIME,
    "TaskQueue": AttributeType.KEYWORD,
    "HistoryLength": AttributeType.INT,
    "HistorySizeBytes": AttributeType.INT,
    "ExecutionDuration": AttributeType.INT,
    "StateTransitionCount": AttributeType.INT,
    "ParentWorkflowId": AttributeType.KEYWORD,
    "ParentRunId": AttributeType.KEYWORD,
    "RootWorkflowId": AttributeType.KEYWORD,
    "RootRunId": AttributeType.KEYWORD,
}
WORDS = st.sampled_from(["a", "ab", "B", "é", "", "a b", "workflow-1", "it's"])
NUMBERS = st.sampled_from([-(1 << 63), -1, 0, 1, 2, 7, 12, (1 << 63) - 1])
VALUES: dict[AttributeType, st.SearchStrategy[Any]] = {
    AttributeType.KEYWORD: WORDS,
    AttributeType.TEXT: st.sampled_from(["One two", "two, THREE!", "Élan a", "", "..."]).map(Text),
    AttributeType.INT: NUMBERS,
    AttributeType.DOUBLE: st.sampled_from([-1.5, 0.0, 1.0, 2.5, 1e300]),
    AttributeType.BOOL: st.booleans(),
    AttributeType.DATETIME: NUMBERS,
    AttributeType.KEYWORD_LIST: st.lists(WORDS, max_size=3),
}
SCALARS = (
    AttributeType.KEYWORD,
    AttributeType.INT,
    AttributeType.DOUBLE,
    AttributeType.BOOL,
    AttributeType.DATETIME,
)


@st.composite
def attributes(draw: st.DrawFn) -> dict[str, object]:
    """Search attributes; some of another type than filters expect."""
    names = draw(st.lists(st.sampled_from(sorted(CUSTOM)), unique=True))
    types = st.sampled_from(list(AttributeType))
    is_mixed = draw(st.integers(0, 19)) == 0
    return {name: draw(VALUES[draw(types) if is_mixed else CUSTOM[name]]) for name in names}


@st.composite
def records(draw: st.DrawFn, run: RunKey) -> VisibilityRecord:
    """List rows in which small values repeat, so that filters hit."""
    small = st.integers(0, 3)
    closed = draw(st.booleans())
    return replace(
        record(run),
        workflow_type=draw(WORDS),
        task_queue=draw(WORDS),
        status=draw(st.integers(2, 7)) if closed else draw(st.sampled_from([1, 1, 8])),
        start_time_ns=draw(small),
        execution_time_ns=draw(small),
        close_time_ns=draw(small) if closed else None,
        history_length=draw(small),
        history_size_bytes=draw(small),
        state_transition_count=draw(small),
        parent_workflow_id=draw(st.none() | WORDS),
        parent_run_id=draw(st.none() | WORDS),
        attributes=draw(attributes()),
    )


@st.composite
def leaves(draw: st.DrawFn) -> Node:
    """Conditions on one attribute, as the parser makes them."""
    if draw(st.integers(0, 4)) == 0:
        numbers = st.integers(1, 8)
        if draw(st.booleans()):
            return Comparison(STATUS, draw(st.sampled_from(Operator)), draw(numbers))
        return InList(STATUS, tuple(draw(st.lists(numbers, min_size=1, max_size=3))))
    name, kind = draw(st.sampled_from(sorted((CUSTOM | SYSTEM).items())))
    attribute = Attribute(name, kind)
    values = VALUES[kind]
    if draw(st.integers(0, 4)) == 0:
        return IsNull(attribute)
    if kind not in SCALARS:
        return ContainsAny(
            attribute, tuple(draw(st.lists(st.sampled_from(["a", "ab", "two", "elan", "é"]), max_size=2)))
        )
    choice = draw(st.integers(0, 3))
    if choice == 0:
        return InList(attribute, tuple(draw(st.lists(values, min_size=1, max_size=3))))
    if choice == 1 and kind is not AttributeType.BOOL:
        return Between(attribute, draw(values), draw(values))
    if choice == 2 and kind is AttributeType.KEYWORD:
        return StartsWith(attribute, draw(WORDS))
    operators = [Operator.EQUAL, Operator.NOT_EQUAL] if kind is AttributeType.BOOL else list(Operator)
    return Comparison(attribute, draw(st.sampled_from(operators)), draw(values))


NODES = st.recursive(
    leaves(),
    lambda nodes: st.one_of(
        st.builds(And, st.lists(nodes, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(nodes, min_size=2, max_size=3).map(tuple)),
        st.builds(Not, nodes),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.AbstractEventLoop, list[Store]]]:
    """The model and a database, open for many examples, each of which uses runs of its own namespace."""
    loop = asyncio.new_event_loop()
    stores: list[Store] = [MemoryStore(), SqliteStore(tmp_path_factory.mktemp("filters") / "filters.db")]
    for store in stores:
        loop.run_until_complete(store.open())
    yield loop, stores
    for store in stores:
        loop.run_until_complete(store.close())
    loop.close()


_examples = count(1)


Rows = dict[RunKey, VisibilityRecord]


async def _write(store: Store, version: int, rows: Rows) -> None:
    """List rows of runs, each with sizes that differ from the row's own."""
    writes = [
        write(
            run,
            version,
            becomes_current=False,
            visibility=row,
            events=(batch(version + 1),),
            history_size_bytes=number % 3,
            transition_count=number % 4,
        )
        for number, (run, row) in enumerate(rows.items())
    ]
    await asyncio.gather(*(store.commit([one]) for one in writes))


async def _answers(store: Store, rows: Rows, wheres: list[Node], order: OrderBy) -> list[object]:
    namespace = next(iter(rows)).namespace_id
    found: list[object] = []
    for where in wheres:
        page = await store.list_runs(namespace, where, 3, None)
        found.append([row.run for row in page.rows])
        if page.next_cursor:
            rest = await store.list_runs(namespace, where, 99, page.next_cursor)
            found.append([row.run for row in rest.rows])
        found.append(await store.count_runs(namespace, where, None))
        for group in ("ExecutionStatus", "TemporalNamespaceDivision", "Keyword"):
            found.append(await store.count_runs(namespace, where, group))
    found.append([row.run for row in await _in_order(store, namespace, wheres[0], order)])
    return found


ORDERS = [
    OrderBy(Attribute(name, kind), descending)
    for name, kind in (
        ("StartTime", AttributeType.DATETIME),
        ("CloseTime", AttributeType.DATETIME),
        ("Keyword", AttributeType.KEYWORD),
        ("Double", AttributeType.DOUBLE),
    )
    for descending in (False, True)
]


async def _in_order(store: Store, namespace: str, where: Node | None, order: OrderBy) -> list[ListedRun]:
    """An ordered list, put together from pages of three."""
    rows: list[ListedRun] = []
    cursor: bytes | None = None
    while True:
        page = await store.list_runs_ordered(namespace, where, order, 3, cursor)
        assert len(page.rows) == 3 or page.next_cursor is None
        rows += page.rows
        cursor = page.next_cursor
        if cursor is None:
            return rows


async def _lives(
    store: Store,
    first: Rows,
    second: Rows,
    deleted: list[RunKey],
    removed: str,
    wheres: list[Node],
    order: OrderBy,
) -> list[object]:
    """What is found of runs as they come, change and go, and lose an attribute."""
    await _write(store, 0, first)
    found = await _answers(store, first, wheres, order)
    await _write(store, 1, second)
    found += await _answers(store, first, wheres, order)
    for run in deleted:
        await store.delete_run(run)
    while await store.purge_attribute(next(iter(first)).namespace_id, removed, 2):
        pass
    return found + await _answers(store, first, wheres, order)


@pytest.mark.parametrize("gather_limit", [plans.GATHER_LIMIT, 1], ids=["looked up", "walked"])
@settings(max_examples=100)
@given(data=st.data())
def test_a_database_answers_every_filter_like_the_model(
    both: tuple[asyncio.AbstractEventLoop, list[Store]], gather_limit: int, data: st.DataObject
) -> None:
    """The model answers with the filter language's own evaluation, row by row; however the database looks for runs."""
    loop, stores = both
    example = next(_examples)
    runs = [
        RunKey(f"namespace {example}", f"workflow-{number % 4}", f"{example:08}-{number:02}")
        for number in range(data.draw(st.integers(1, 12)))
    ]
    first = {run: data.draw(records(run)) for run in runs}
    second = {run: data.draw(records(run)) for run in data.draw(st.lists(st.sampled_from(runs), unique=True))}
    deleted = data.draw(st.lists(st.sampled_from(runs), unique=True, max_size=3))
    removed = data.draw(st.sampled_from(sorted(CUSTOM.keys() - {"TemporalNamespaceDivision"})))
    wheres = data.draw(st.lists(NODES, min_size=1, max_size=4))
    order = data.draw(st.sampled_from(ORDERS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "GATHER_LIMIT", gather_limit)
        patch.setattr(plans, "LARGE_GATHER_LIMIT", 2 * gather_limit)
        expected, found = (
            loop.run_until_complete(_lives(store, first, second, deleted, removed, wheres, order))
            for store in stores
        )
    assert found == expected


# --- removed attributes


async def test_an_attribute_is_taken_out_of_all_runs_some_at_a_time(store: Store) -> None:
    """What else a run has stays, and a value of the same name set later is a new one."""
    for number in range(1, 8):
        await _add(store, number, attributes={"Customer": "a", "Tags": ["x", "y"]})
    other = run_key(20, namespace=OTHER_NAMESPACE)
    await store.commit([write(other, visibility=record(other, attributes={"Customer": "a"}))])
    customer = Comparison(Attribute("Customer", AttributeType.KEYWORD), Operator.EQUAL, "a")
    tagged = ContainsAny(Attribute("Tags", AttributeType.KEYWORD_LIST), ("y",))
    assert len(await _numbers(store, customer)) == 7
    rounds = 0
    while done := await store.purge_attribute(NAMESPACE, "Customer", 3):
        assert done <= 3
        rounds += 1
    assert rounds == 3
    assert await _numbers(store, customer) == []
    assert len(await _numbers(store, tagged)) == 7
    assert await _numbers(store, customer, OTHER_NAMESPACE) == [20]
    page = await store.list_runs(NAMESPACE, None, 10, None)
    assert all(row.record.attributes == {"Tags": ["x", "y"]} for row in page.rows)
    await _add(store, 8, attributes={"Customer": 5})
    numbered = Comparison(Attribute("Customer", AttributeType.INT), Operator.GREATER, 4)
    assert await _numbers(store, numbered) == [8]
    assert await _numbers(store, customer) == []


@pytest.mark.parametrize("value", [Text("!!!"), Text(""), []])
async def test_a_value_that_no_filter_looks_up_is_taken_out_too(store: Store, value: AttributeValue) -> None:
    """A text without words and a list without elements; one that has been taken back before is none of them."""
    for number in range(1, 4):
        await _add(store, number, attributes={"Note": value, "Customer": "a"})
    await store.commit([write(run_key(3), 1, visibility=record(run_key(3), attributes={"Customer": "a"}))])
    is_null = IsNull(Attribute("Note", AttributeType.KEYWORD_LIST if value == [] else AttributeType.TEXT))
    assert await _numbers(store, is_null) == [3]
    assert [await store.purge_attribute(NAMESPACE, "Note", 1) for _ in range(3)] == [1, 1, 0]
    assert sorted(await _numbers(store, is_null)) == [1, 2, 3]
    page = await store.list_runs(NAMESPACE, None, 10, None)
    assert all(row.record.attributes == {"Customer": "a"} for row in page.rows)


async def test_an_ordered_list_shows_the_runs_without_a_value_last(store: Store) -> None:
    """Each run once, in both directions, with equal values in the order of run ids."""
    for number, amount in enumerate((5, -1, None, 5, 7, None), start=1):
        given = {} if amount is None else {"Amount": amount}
        await _add(store, number, start_ns=number, attributes=given)
    by_amount = Attribute("Amount", AttributeType.INT)
    for descending, expected in ((False, [2, 1, 4, 5, 6, 3]), (True, [5, 1, 4, 2, 6, 3])):
        rows = await _in_order(store, NAMESPACE, None, OrderBy(by_amount, descending))
        assert [int(row.run.run_id[-6:]) for row in rows] == expected
    not_stored = (
        b'\x02[9223372036854775808, "r"]',
        b'\x02[-9223372036854775809, "r"]',
        b'\x02[1, "\\ud800"]',
    )
    for cursor in (b"\x02", b"\x02[1]", b'\x02["text", "r"]', b"\x02{}", b"\x03", *not_stored):
        with pytest.raises(InvalidArgumentError):
            await store.list_runs_ordered(NAMESPACE, None, OrderBy(by_amount, False), 3, cursor)


# --- counts


async def test_counts_are_of_what_matches(store: Store) -> None:
    assert await store.count_runs(NAMESPACE, None, None) == [(None, 0)]
    assert await store.count_runs(NAMESPACE, None, "ExecutionStatus") == []
    for number, status in enumerate([2, 2, 3, 1, 2, 3, 5], start=1):
        await _add(store, number, status=status, close_ns=None if status == 1 else 5)
    assert await store.count_runs(NAMESPACE, None, None) == [(None, 7)]
    assert await store.count_runs(NAMESPACE, None, "ExecutionStatus") == [(2, 3), (3, 2), (1, 1), (5, 1)]
    closed = Not(Comparison(STATUS, Operator.EQUAL, 1))
    assert await store.count_runs(NAMESPACE, closed, None) == [(None, 6)]
    assert await store.count_runs(OTHER_NAMESPACE, None, None) == [(None, 0)]


async def test_a_missing_value_is_a_group_too(store: Store) -> None:
    await _add(store, 1, attributes={"TemporalNamespaceDivision": "TemporalScheduler"})
    await _add(store, 2)
    await _add(store, 3)
    groups = await store.count_runs(NAMESPACE, None, "TemporalNamespaceDivision")
    assert groups == [(None, 2), ("TemporalScheduler", 1)]
