"""Lists in the order of an attribute: first the runs that have it, by its value, then the others as in other lists."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from perdure.core.visibility import And, Attribute, Between, Comparison, IsNull, Node, Operator, OrderBy
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


@dataclass(frozen=True, slots=True)
class _Walk:
    """Runs that have an attribute, to be read in the order of its value.

    Attributes:
        tables: have `v`, the list row.
        tests: what must hold, besides the bounds.
        parameters: of the tables, then of the tests.
        value: the attribute's value.
        bounds: operators and values between which it is.
    """

    tables: str
    tests: tuple[str, ...]
    parameters: tuple[object, ...]
    value: str
    bounds: tuple[tuple[str, object], ...] = ()

    def ranges(
        self, after: OrderedPosition | None, descending: bool
    ) -> Iterator[tuple[str, tuple[object, ...]]]:
        """What follows a place, as ranges of an index one after the other, so that no row before it is read.

        The place is the better bound from its side, and of several SQLite takes one: the first, or any.
        """
        bounds = self.bounds
        if after is not None:
            yield f"{self.value} = ? AND v.run_id > ?", (after.value, after.run_id)
            beyond, ahead = ("<", ">") if descending else (">", "<")
            bounds = ((beyond, after.value), *(bound for bound in bounds if bound[0].startswith(ahead)))
        tests = [f"{self.value} {operator} ?" for operator, _ in bounds]
        yield " AND ".join(tests) or "1 = 1", tuple(value for _, value in bounds)


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
    few = plans.few(connection, namespace, where) if where is not None else None
    if few is not None:
        value = column_of(order.attribute.name, order.attribute.type)
        tests = (*few.conditions, f"{value} IS NOT NULL")
        walk = _Walk(few.tables, tests, few.parameters, value)
    else:
        walk = _walk(connection, namespace, where, order)
    direction = "DESC" if order.descending else "ASC"
    for test, parameters in walk.ranges(after, order.descending):
        found = connection.execute(
            f"SELECT {lists.COLUMNS}, {walk.value} AS ordered FROM {walk.tables} "  # noqa: S608
            f"WHERE {' AND '.join([*walk.tests, test])} ORDER BY {walk.value} {direction}, v.run_id LIMIT ?",
            (*walk.parameters, *parameters, limit),
        ).fetchall()
        limit -= len(found)
        for row in found:
            yield lists.listed(namespace_id, row[:-1]), row[-1]
        if limit <= 0:
            return


def _walk(connection: sqlite3.Connection, namespace: int, where: Node | None, order: OrderBy) -> _Walk:
    """All runs that have the attribute and match the filter."""
    name, kind = order.attribute.name, order.attribute.type
    if name == "StartTime":
        tables = "visibility AS v INDEXED BY visibility_by_start"
        return _indexed(tables, "v.namespace", namespace, "v.start_time_ns", where, order)
    if name == "CloseTime":
        tables = "visibility AS v INDEXED BY visibility_in_list_order"
        walk = _indexed(tables, "v.namespace", namespace, "v.close_key", where, order)
        return replace(walk, bounds=(*walk.bounds, ("<", OPEN_CLOSE_KEY)))
    found = connection.execute(queries.FIND_ATTRIBUTE_KEY, (namespace, name)).fetchone()
    if found is not None and not serves(found[1], kind):
        value = column_of(name, kind)
        text, parameters = ("1 = 1", []) if where is None else condition(where)
        tests = ("v.namespace = ?", f"{value} IS NOT NULL", text)
        return _Walk("visibility AS v", tests, (namespace, *parameters), value)
    attribute = -1 if found is None else found[0]
    tables = "attribute_values AS i CROSS JOIN visibility AS v ON v.run_row = i.run_row"
    return _indexed(tables, "i.attribute", attribute, "i.value", where, order)


def _indexed(tables: str, key: str, number: int, value: str, where: Node | None, order: OrderBy) -> _Walk:
    """An index of values behind a key; what the filter says of the value bounds the walk."""
    tests = [f"{key} = ?"]
    parameters: list[object] = [number]
    bounds: list[tuple[str, object]] = []
    for node in plans.conjuncts(where) if where is not None else ():
        if of_value := _bounds(node, order.attribute):
            bounds += of_value
            # With the sign it is a test and no bound: the range of a later page has better ones.
            tests += [f"+{value} {operator} ?" for operator, _ in of_value]
            parameters += [bound for _, bound in of_value]
        else:
            text, bound = condition(node)
            tests.append(text)
            parameters += bound
    return _Walk(tables, tuple(tests), tuple(parameters), value, tuple(bounds))


def _bounds(node: Node, attribute: Attribute) -> tuple[tuple[str, object], ...]:
    """A condition as bounds of an attribute's value, if it is nothing else."""
    match node:
        case Comparison(asked, Operator.EQUAL, value) if asked == attribute:
            return (">=", value), ("<=", value)
        case Comparison(asked, operator, value) if asked == attribute and operator is not Operator.NOT_EQUAL:
            return ((operator.value, value),)
        case Between(asked, low, high) if asked == attribute:
            return (">=", low), ("<=", high)
    return ()
