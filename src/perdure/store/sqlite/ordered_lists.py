"""Lists in the order of an attribute: first the runs that have it, by its value, then the others as in other lists."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from perdure.core.visibility import And, IsNull, Node, OrderBy
from perdure.store.cursor import (
    OPEN_CLOSE_KEY,
    ListPosition,
    OrderedPosition,
    decode_ordered_cursor,
    encode_ordered_cursor,
)
from perdure.store.protocol import ListedRun, ListPage
from perdure.store.sqlite import lists, plans, queries
from perdure.store.sqlite.columns import column_of, condition
from perdure.store.sqlite.reads import snapshot
from perdure.store.sqlite.search_index import serves


def list_runs_ordered(
    connection: sqlite3.Connection,
    namespace: int,
    namespace_id: str,
    where: Node | None,
    order: OrderBy,
    page_size: int,
    cursor: bytes | None,
) -> ListPage:
    """See `Store.list_runs_ordered`."""
    after = decode_ordered_cursor(cursor, order.attribute.type) if cursor else None
    rows: list[ListedRun] = []
    values: list[Any] = []
    if not isinstance(after, ListPosition):
        with snapshot(connection):
            for row, value in _with_value(
                connection, namespace, namespace_id, where, order, page_size + 1, after
            ):
                rows.append(row)
                values.append(value)
        cursor = None
    if len(rows) <= page_size:
        absent = IsNull(order.attribute)
        others = And((where, absent)) if where is not None else absent
        rest = lists.list_runs(connection, namespace, namespace_id, others, page_size + 1 - len(rows), cursor)
        rows.extend(rest.rows)
    if len(rows) <= page_size:
        return ListPage(tuple(rows), None)
    del rows[page_size:]
    last = rows[-1]
    if page_size <= len(values):
        position = OrderedPosition(values[page_size - 1], last.run.run_id)
        return ListPage(tuple(rows), encode_ordered_cursor(position))
    return ListPage(tuple(rows), lists.cursor_after(last))


def _with_value(
    connection: sqlite3.Connection,
    namespace: int,
    namespace_id: str,
    where: Node | None,
    order: OrderBy,
    limit: int,
    after: OrderedPosition | None,
) -> Iterator[tuple[ListedRun, Any]]:
    """The runs that have the attribute, after a place among them."""
    tables, tests, parameters, value = _walk(connection, namespace, order)
    few = plans.few(connection, namespace, where) if where is not None else None
    if few is not None:
        tables, tests, parameters = few.tables, list(few.conditions), list(few.parameters)
        value = column_of(order.attribute.name, order.attribute.type)
        tests.append(f"{value} IS NOT NULL")
    elif where is not None:
        text, bound = condition(where)
        tests.append(text)
        parameters += bound
    direction, beyond = ("DESC", "<") if order.descending else ("ASC", ">")
    ranges: list[tuple[str, tuple[object, ...]]] = [("1 = 1", ())]
    if after is not None:
        ranges = [
            (f"{value} = ? AND v.run_id > ?", (after.value, after.run_id)),
            (f"{value} {beyond} ?", (after.value,)),
        ]
    for range_test, range_parameters in ranges:
        found = connection.execute(
            f"SELECT {lists.COLUMNS}, {value} AS ordered FROM {tables} "  # noqa: S608
            f"WHERE {' AND '.join([*tests, range_test])} ORDER BY {value} {direction}, v.run_id LIMIT ?",
            (*parameters, *range_parameters, limit),
        ).fetchall()
        limit -= len(found)
        for row in found:
            yield lists.listed(namespace_id, row[:-1]), row[-1]
        if limit <= 0:
            return


def _walk(
    connection: sqlite3.Connection, namespace: int, order: OrderBy
) -> tuple[str, list[str], list[object], str]:
    """Tables, conditions and parameters of a walk in the order of the value, and the value."""
    name, kind = order.attribute.name, order.attribute.type
    in_namespace = ["v.namespace = ?"]
    if name == "StartTime":
        tables = "visibility AS v INDEXED BY visibility_by_start"
        return tables, in_namespace, [namespace], "v.start_time_ns"
    if name == "CloseTime":
        tables = "visibility AS v INDEXED BY visibility_in_list_order"
        return tables, [*in_namespace, f"v.close_key < {OPEN_CLOSE_KEY}"], [namespace], "v.close_key"
    found = connection.execute(queries.FIND_ATTRIBUTE_KEY, (namespace, name)).fetchone()
    if found is not None and not serves(found[1], kind):
        value = column_of(name, kind)
        return "visibility AS v", [*in_namespace, f"{value} IS NOT NULL"], [namespace], value
    attribute = -1 if found is None else found[0]
    tables = "attribute_values AS i CROSS JOIN visibility AS v ON v.run_row = i.run_row"
    return tables, ["i.attribute = ?"], [attribute], "i.value"
