"""How SQLite finds rows: no statement walks a table, whatever the number of runs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator

import pytest

from perdure.core.visibility import And, Attribute, AttributeType, Comparison, InList, IsNull, Node, Operator
from perdure.store.cursor import ListPosition
from perdure.store.sqlite import SqliteStore, lists, queries

ORDINARY = IsNull(Attribute("TemporalNamespaceDivision", AttributeType.KEYWORD))
STATUS = Attribute("ExecutionStatus", AttributeType.KEYWORD)
WORKFLOW_ID = Attribute("WorkflowId", AttributeType.KEYWORD)
RUN_ID = Attribute("RunId", AttributeType.KEYWORD)
CLOSE_TIME = Attribute("CloseTime", AttributeType.DATETIME)
ALL_ROWS_ARE_WANTED = {"LIST_NAMESPACES"}


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A plain connection to a database with the newest schema."""
    path = tmp_path_factory.mktemp("plans") / "plans.db"

    async def make() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.close()

    asyncio.run(make())
    connection = sqlite3.connect(path)
    lists.add_functions(connection)
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
    assert name in ALL_ROWS_ARE_WANTED or not any(step.startswith("SCAN") for step in plan), plan


@pytest.mark.parametrize(
    ("where", "index"),
    [
        (None, "visibility_in_list_order (namespace=?)"),
        (ORDINARY, "visibility_in_list_order (namespace=?)"),
        (Comparison(STATUS, Operator.EQUAL, 1), "visibility_in_list_order (namespace=? AND close_key=?)"),
        (InList(STATUS, (2, 3)), "visibility_in_list_order (namespace=? AND close_key<?)"),
        (
            And((ORDINARY, Comparison(CLOSE_TIME, Operator.GREATER, 5))),
            "namespace=? AND close_key>? AND close_key<?",
        ),
        (And((Comparison(WORKFLOW_ID, Operator.EQUAL, "w"), ORDINARY)), "namespace=? AND workflow_id=?"),
        (Comparison(RUN_ID, Operator.EQUAL, "r"), "run_id=?"),
    ],
    ids=["all", "ordinary", "running", "closed", "closed since", "workflow id", "run id"],
)
def test_frequent_lists_look_only_where_their_runs_are(
    connection: sqlite3.Connection, where: Node | None, index: str
) -> None:
    selection = lists._select(where)
    condition = " AND ".join(selection.conditions)
    statement = f"SELECT {lists._COLUMNS} FROM {selection.tables} WHERE {condition} {lists._ORDER}"
    plan = _plan(connection, statement, 1 + len(selection.parameters))
    assert index in plan[0]
    assert not any(step.startswith("SCAN") for step in plan), plan


@pytest.mark.parametrize("group", ["NULL", "v.status", "v.division"])
def test_ordinary_runs_are_counted_from_the_index_alone(connection: sqlite3.Connection, group: str) -> None:
    selection = lists._select(ORDINARY)
    condition = " AND ".join(selection.conditions)
    statement = f"SELECT {group} AS value, count(*) FROM {selection.tables} WHERE {condition} GROUP BY value"
    assert (
        "COVERING INDEX visibility_in_list_order"
        in _plan(connection, statement, 1 + len(selection.parameters))[0]
    )


def test_pages_continue_where_the_last_one_ended(connection: sqlite3.Connection) -> None:
    position = ListPosition(5, 4, "run")
    for condition, parameters in lists._ranges_after(position):
        statement = f"SELECT {lists._COLUMNS} FROM visibility AS v WHERE v.namespace = ? AND {condition} {lists._ORDER}"
        plan = _plan(connection, statement, 1 + len(parameters))
        assert "close_key" in plan[0], plan
        assert len(plan) == 1, f"sorted: {plan}"
