"""How SQLite finds rows: no statement walks a table, whatever the number of runs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.core.run.records import AttributeValue
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
    Operator,
    Or,
    OrderBy,
    StartsWith,
)
from perdure.store.cursor import ListPosition
from perdure.store.protocol import ListPage
from perdure.store.sqlite import SqliteStore, columns, lists, plans, queries, reads
from perdure.store.sqlite.ordered_lists import list_runs_ordered
from tests.store.builders import batch, record, run_key, write

ORDINARY = IsNull(Attribute("TemporalNamespaceDivision", AttributeType.KEYWORD))
STATUS = Attribute("ExecutionStatus", AttributeType.KEYWORD)
WORKFLOW_ID = Attribute("WorkflowId", AttributeType.KEYWORD)
RUN_ID = Attribute("RunId", AttributeType.KEYWORD)
CLOSE_TIME = Attribute("CloseTime", AttributeType.DATETIME)
START_TIME = Attribute("StartTime", AttributeType.DATETIME)
WORKFLOW_TYPE = Attribute("WorkflowType", AttributeType.KEYWORD)
PARENT = Attribute("ParentWorkflowId", AttributeType.KEYWORD)
CUSTOMER = Attribute("Customer", AttributeType.KEYWORD)
AMOUNT = Attribute("Amount", AttributeType.INT)
TASK_QUEUE = Attribute("TaskQueue", AttributeType.KEYWORD)
TAGS = Attribute("Tags", AttributeType.KEYWORD_LIST)
MANY = plans.GATHER_LIMIT + 10
ALL_ROWS_ARE_WANTED = {"LIST_NAMESPACES", "LIST_ENDPOINTS", "LIST_DEPLOYMENTS", "LIST_QUEUE_CONFIGS"}


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A plain connection to a database of many runs of one customer and one of another."""
    path = tmp_path_factory.mktemp("plans") / "plans.db"

    async def make() -> None:
        store = SqliteStore(path)
        await store.open()
        for number in range(MANY):
            run = run_key(number)
            attributes: dict[str, AttributeValue] = {
                "Customer": "many" if number else "one",
                "Amount": -number,
                "Tags": ["c"],
            }
            shown = record(
                run, workflow_type="Many", status=3, start_ns=number, close_ns=number, attributes=attributes
            )
            if number == MANY - 1:
                await store.commit([write(run, visibility=shown)])
            else:
                store.commit([write(run, visibility=shown)])
        await store.close()

    asyncio.run(make())
    connection = sqlite3.connect(path)
    columns.add_functions(connection)
    yield connection
    connection.close()


def _plan(connection: sqlite3.Connection, statement: str, parameters: int) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", [1] * parameters)]


def _statements() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in vars(queries).items():
        for statement in value if isinstance(value, tuple) else (value,):
            if name.isupper() and isinstance(statement, str):
                found.append((name, statement))
    return found


@pytest.mark.parametrize(
    ("name", "statement"), _statements(), ids=lambda value: value if value.isupper() else ""
)
def test_no_statement_walks_a_table(connection: sqlite3.Connection, name: str, statement: str) -> None:
    plan = _plan(connection, statement, statement.count("?"))
    walks = [step for step in plan if step.startswith("SCAN") and "(subquery" not in step]
    assert name in ALL_ROWS_ARE_WANTED or not walks, plan


def _list_plan(connection: sqlite3.Connection, where: Node | None) -> list[str]:
    plan = plans.for_list(connection, 1, where)
    if isinstance(plan, plans.Ranked):
        return _steps_of(connection, lambda: lists._ranked(connection, plan, None, 10))
    return [step for one in plan for step in _steps(connection, one)]


def _steps_of(connection: sqlite3.Connection, act: Callable[[], object]) -> list[str]:
    """The steps of every statement that is executed."""
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    act()
    connection.set_trace_callback(None)
    return [
        row[3] for statement in statements for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
    ]


def _steps(connection: sqlite3.Connection, plan: plans.Plan) -> list[str]:
    condition = " AND ".join(plan.conditions)
    statement = (
        f"SELECT {lists.COLUMNS} FROM {plan.tables} WHERE {condition} {lists._ORDER.format(plan.ordered_by)}"
    )
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", plan.parameters)]


def _equal(attribute: Attribute, value: str | int) -> Node:
    return Comparison(attribute, Operator.EQUAL, value)


@pytest.mark.parametrize(
    ("where", "index"),
    [
        (None, "visibility_in_list_order (namespace=?)"),
        (ORDINARY, "visibility_in_list_order (namespace=?)"),
        (_equal(STATUS, 1), "visibility_in_list_order (namespace=? AND close_key=?)"),
        (InList(STATUS, (2, 3)), "visibility_in_list_order (namespace=? AND close_key<?)"),
        (
            And((ORDINARY, Comparison(CLOSE_TIME, Operator.GREATER, 5))),
            "namespace=? AND close_key>? AND close_key<?",
        ),
        (_equal(WORKFLOW_TYPE, "Many"), "visibility_by_type (namespace=? AND workflow_type=?)"),
        (_equal(STATUS, 3), "visibility_by_status (namespace=? AND status=? AND close_key<?)"),
        (_equal(CUSTOMER, "many"), "SEARCH i USING PRIMARY KEY (attribute=? AND value=?)"),
        (
            And((_equal(CUSTOMER, "many"), _equal(STATUS, 1))),
            "SEARCH i USING PRIMARY KEY (attribute=? AND value=? AND close_key=?)",
        ),
    ],
)
def test_lists_of_many_runs_are_walked_in_their_order(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, where: Node | None, index: str
) -> None:
    """No page costs more than the rows it passes over: nothing is sorted but runs of the same times."""
    monkeypatch.setattr(plans, "GATHER_LIMIT", 1)
    plan = _list_plan(connection, where)
    assert index in plan[0], plan
    assert not any(step.startswith("SCAN") for step in plan), plan
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan, plan


@pytest.mark.parametrize(
    ("where", "index"),
    [
        (And((_equal(WORKFLOW_ID, "w"), ORDINARY)), "namespace=? AND workflow_id=?"),
        (StartsWith(WORKFLOW_ID, "w"), "namespace=? AND workflow_id>? AND workflow_id<?"),
        (_equal(RUN_ID, "r"), "run_id=?"),
        (And((_equal(WORKFLOW_TYPE, "Many"), _equal(CUSTOMER, "one"))), "attribute=? AND value=?"),
        (Comparison(AMOUNT, Operator.GREATER, 5), "attribute=? AND value>?"),
        (ContainsAny(TAGS, ("a", "b")), "attribute=? AND value=?"),
        (_equal(Attribute("Nobody", AttributeType.INT), 1), "attribute=?"),
        (
            Comparison(START_TIME, Operator.GREATER, 1 << 62),
            "visibility_by_start (namespace=? AND start_time_ns>?)",
        ),
        (_equal(PARENT, "p"), "visibility_by_parent (namespace=? AND parent_workflow_id=?)"),
        (Or((_equal(CUSTOMER, "one"), _equal(WORKFLOW_ID, "w"))), "COMPOUND QUERY"),
    ],
)
def test_few_runs_are_looked_up(connection: sqlite3.Connection, where: Node, index: str) -> None:
    """Of the conditions that must hold, the one with the fewest runs leads to them."""
    plan = _list_plan(connection, where)
    assert any(index in step for step in plan), plan
    assert "SEARCH v USING INTEGER PRIMARY KEY (rowid=?)" in plan, plan


@pytest.mark.parametrize(
    "where",
    [
        ContainsAny(TAGS, ("a", "c")),
        InList(CUSTOMER, ("many", "other")),
        Or((_equal(CUSTOMER, "many"), _equal(WORKFLOW_TYPE, "Many"), ContainsAny(TAGS, ("b", "c")))),
        And((_equal(STATUS, 3), Or((_equal(CUSTOMER, "many"), ContainsAny(TAGS, ("c",)))))),
    ],
)
def test_alternatives_with_many_runs_are_walked_side_by_side(
    connection: sqlite3.Connection, where: Node
) -> None:
    """Of each, no more is read than a page; a run that several of them find is in it once."""
    steps = _list_plan(connection, where)
    assert not any(step.startswith(("SCAN v", "SCAN i")) for step in steps), steps
    assert "USE TEMP B-TREE FOR ORDER BY" not in steps, steps
    page = lists.list_runs(connection, 1, "n", where, 7, None)
    assert [row.run.run_id for row in page.rows] == [run_key(MANY - 1 - place).run_id for place in range(7)]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (Comparison(AMOUNT, Operator.LESS, -10), MANY - 11),
        (Or((Comparison(AMOUNT, Operator.LESS, -10), StartsWith(CUSTOMER, "man"))), MANY - 1),
        (And((Comparison(AMOUNT, Operator.LESS, -10), _equal(CLOSE_TIME, 15))), 1),
        (And((Comparison(AMOUNT, Operator.LESS, -10), _equal(TASK_QUEUE, "nobody's"))), 0),
    ],
)
def test_runs_that_the_index_can_put_in_order_are_looked_up_as_far_as_a_page_goes(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, where: Node, rows: int
) -> None:
    """However many there are; only a filter that leaves few of them over has more of them looked at."""
    monkeypatch.setattr(plans, "LARGE_GATHER_LIMIT", MANY * 2)
    plan = plans.for_list(connection, 1, where)
    assert isinstance(plan, plans.Ranked)
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    page = lists.list_runs(connection, 1, "n", where, 7, None)
    connection.set_trace_callback(None)
    assert len(page.rows) == min(7, rows)
    pieces = [statement for statement in statements if "CROSS JOIN visibility" in statement]
    assert len(pieces) == (1 if rows > 7 else 5), pieces
    assert not any(step.startswith("SCAN v") for step in _list_plan(connection, where))


@pytest.mark.parametrize(
    ("where", "group", "index"),
    [
        (None, "NULL", "visibility_counts"),
        (And((_equal(WORKFLOW_TYPE, "Many"), ORDINARY)), "v.status", "visibility_counts"),
        (
            And((_equal(CUSTOMER, "many"), ORDINARY)),
            "v.status",
            "SEARCH v USING PRIMARY KEY (attribute=? AND value=?",
        ),
    ],
)
def test_counts_are_read_from_sums_or_an_index_alone(
    connection: sqlite3.Connection, where: Node | None, group: str, index: str
) -> None:
    """No list row is read for a count that needs none."""
    plan = plans.for_count(connection, 1, where, None if group == "NULL" else "ExecutionStatus")
    statement = (
        f"SELECT {group} AS value, {plan.counted} FROM {plan.tables} WHERE {' AND '.join(plan.conditions)}"
    )
    steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", plan.parameters)]
    assert index in steps[0], steps
    assert len(steps) == 1, steps


def test_pages_continue_where_the_last_one_ended(connection: sqlite3.Connection) -> None:
    position = ListPosition(5, 4, "run")
    for condition, parameters in lists._ranges_after(position, "v"):
        statement = (
            f"SELECT {lists.COLUMNS} FROM visibility AS v WHERE v.namespace = ? AND {condition} "
            + lists._ORDER.format("v")
        )
        plan = _plan(connection, statement, 1 + len(parameters))
        assert "close_key" in plan[0], plan
        assert len(plan) == 1, f"sorted: {plan}"


def test_alternatives_are_counted_in_the_index_alone(connection: sqlite3.Connection) -> None:
    """Each run once, however many of them find it; no list row is read."""
    where = And(
        (Or((_equal(CUSTOMER, "many"), ContainsAny(TAGS, ("c",)), _equal(AMOUNT, 0))), _equal(STATUS, 3))
    )
    steps = _steps_of(connection, lambda: lists.count_runs(connection, 1, where, None))
    assert not any("visibility" in step or "USING INTEGER PRIMARY KEY" in step for step in steps), steps
    assert lists.count_runs(connection, 1, where, None) == [(None, MANY)]
    assert lists.count_runs(connection, 1, where, "ExecutionStatus") == [(3, MANY)]


@pytest.mark.parametrize("attribute", [START_TIME, WORKFLOW_TYPE, RUN_ID])
def test_asking_for_what_is_never_missing_is_answered(
    connection: sqlite3.Connection, attribute: Attribute
) -> None:
    """SQLite folds such a question away, and must have a plan for the indexes that are named all the same."""
    rare = Or((InList(STATUS, (5,)), InList(STATUS, (6,))))
    where = And((rare, IsNull(attribute)))
    assert not lists.list_runs(connection, 1, "n", where, 7, None).rows
    assert lists.count_runs(connection, 1, where, None) == [(None, 0)]


def _work_of(connection: sqlite3.Connection, act: Callable[[], object]) -> int:
    """The instructions that SQLite executes: the same on every machine."""
    count = 0

    def note() -> None:
        nonlocal count
        count += 1

    connection.set_progress_handler(note, 1)
    act()
    connection.set_progress_handler(None, 1)
    return count


@pytest.mark.parametrize(
    "where",
    [
        ORDINARY,
        And((ORDINARY, _equal(STATUS, 3))),
        And((ORDINARY, InList(STATUS, (2, 3)))),
        And((ORDINARY, Comparison(CLOSE_TIME, Operator.LESS, 1 << 62))),
        And((ORDINARY, _equal(WORKFLOW_TYPE, "Many"))),
        And((_equal(CUSTOMER, "many"), InList(STATUS, (2, 3)))),
    ],
)
def test_a_page_of_the_list_costs_what_its_rows_cost(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, where: Node
) -> None:
    """The first and a later one: not one instruction for each run that is not on it."""
    monkeypatch.setattr(plans, "GATHER_LIMIT", 1)
    page = lists.list_runs(connection, 1, "n", where, 1_000, None)
    first = _work_of(connection, lambda: lists.list_runs(connection, 1, "n", where, 5, None))
    later = _work_of(connection, lambda: lists.list_runs(connection, 1, "n", where, 5, page.next_cursor))
    assert max(first, later) < MANY


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize(
    ("attribute", "where"),
    [
        (CLOSE_TIME, None),
        (START_TIME, None),
        (AMOUNT, None),
        (CLOSE_TIME, And((ORDINARY, Between(CLOSE_TIME, 200, MANY - 200)))),
        (START_TIME, And((Comparison(START_TIME, Operator.GREATER, 200), _equal(CUSTOMER, "many")))),
        (START_TIME, Between(START_TIME, 200, MANY - 200)),
        (AMOUNT, Comparison(AMOUNT, Operator.LESS, -200)),
        (AMOUNT, Comparison(AMOUNT, Operator.GREATER, 200 - MANY)),
        (CLOSE_TIME, _equal(STATUS, 3)),
        (AMOUNT, _equal(CUSTOMER, "many")),
    ],
)
def test_a_page_in_another_order_costs_what_its_rows_cost(
    connection: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    attribute: Attribute,
    where: Node | None,
    descending: bool,
) -> None:
    """The first and a later one, wherever the order goes; a filter on the attribute itself says where it begins."""
    monkeypatch.setattr(plans, "GATHER_LIMIT", 1)
    order = OrderBy(attribute, descending)

    def page(size: int, cursor: bytes | None) -> ListPage:
        return list_runs_ordered(connection, 1, "n", where, order, size, cursor)

    after = page(1_000, None).next_cursor
    assert after is not None
    first = _work_of(connection, lambda: page(5, None))
    later = _work_of(connection, lambda: page(5, after))
    assert max(first, later) < MANY, (first, later)


def test_counts_by_status_cost_the_same_of_many_runs(connection: sqlite3.Connection) -> None:
    """They are sums, which are kept."""
    assert _work_of(connection, lambda: lists.count_runs(connection, 1, ORDINARY, "ExecutionStatus")) < 200


def test_a_page_of_a_long_history_costs_the_same_wherever_it_begins(tmp_path: Path) -> None:
    """At its beginning, in its middle and from its end; and what the runs beside it have does not count."""
    path = tmp_path / "history.db"
    length = 4_000

    async def make() -> None:
        store = SqliteStore(path)
        await store.open()
        for number in (1, 2, 3):
            events = tuple(batch(event_id, data=b"e" * 100) for event_id in range(1, length + 1))
            await store.commit([write(run_key(number), events=events)])
        await store.close()

    asyncio.run(make())
    connection = sqlite3.connect(path)

    def work(first: int, is_reverse: bool) -> int:
        return _work_of(
            connection,
            lambda: reads.read_history(connection, 1, run_key(2), first, first + length, 5_000, is_reverse),
        )

    found = [work(1, False), work(length // 2, False), work(length - 100, False), work(1, True)]
    connection.close()
    assert max(found) < 2_000, found
