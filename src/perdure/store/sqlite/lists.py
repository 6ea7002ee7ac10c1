"""Lists and counts of runs: keyset paging over what `plans.py` says is to be read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from perdure.core.run.records import RunKey, RunKind, VisibilityRecord
from perdure.core.visibility import AttributeType, Node
from perdure.store.cursor import OPEN_CLOSE_KEY, ListPosition, close_key, decode_cursor, encode_cursor
from perdure.store.listing import sort_groups
from perdure.store.protocol import ListedRun, ListPage
from perdure.store.sqlite import plans
from perdure.store.sqlite.columns import column_of
from perdure.store.sqlite.reads import snapshot

COLUMNS: Final = """
    v.workflow_id, v.run_id, v.workflow_type, v.task_queue, v.status, v.start_time_ns, v.execution_time_ns, v.close_key,
    v.history_length, v.history_size_bytes, v.state_transition_count, v.parent_workflow_id, v.parent_run_id,
    v.root_workflow_id, v.root_run_id, v.memo, v.search_attributes, v.attributes
"""
_ORDER: Final = "ORDER BY {0}.close_key DESC, {0}.start_time_ns DESC, v.run_id"
_PLACE: Final = "(i.close_key, i.start_time_ns)"
PIECE: Final = 2
"""Times the size of a page: so many runs are looked up at first, of those whose order is known before..."""
GROWTH: Final = 4
"""...and so many times more in each round in which too few of them match."""
_Row: TypeAlias = tuple[Any, ...]


def list_runs(
    connection: sqlite3.Connection,
    namespace: int,
    namespace_id: str,
    where: Node | None,
    page_size: int,
    cursor: bytes | None,
    kind: RunKind = RunKind.WORKFLOW,
) -> ListPage:
    """See `Store.list_runs`."""
    position = decode_cursor(cursor) if cursor else None
    with snapshot(connection):
        plan = plans.for_list(connection, namespace, where, is_first=position is None)
        if isinstance(plan, plans.Ranked):
            found = _ranked(connection, plan, position, page_size + 1)
        elif len(plan) == 1:
            found = _walked(connection, plan[0], position, page_size + 1)
        else:
            found = _merged([_walked(connection, arm, position, page_size + 1) for arm in plan])
    rows = [listed(namespace_id, row, kind) for row in found[:page_size]]
    return ListPage(tuple(rows), cursor_after(rows[-1]) if len(found) > page_size else None)


def _walked(
    connection: sqlite3.Connection, plan: plans.Plan, position: ListPosition | None, limit: int
) -> list[_Row]:
    """The first rows after a position of what a plan finds, in the order of lists."""
    rows: list[_Row] = []
    for range_condition, range_parameters in _ranges_after(position, plan.ordered_by):
        condition = " AND ".join([*plan.conditions, range_condition])
        rows += connection.execute(
            f"SELECT {COLUMNS} FROM {plan.tables} WHERE {condition} "  # noqa: S608
            f"{_ORDER.format(plan.ordered_by)} LIMIT ?",
            (*plan.parameters, *range_parameters, limit - len(rows)),
        ).fetchall()
        if len(rows) >= limit:
            break
    return rows


def _merged(found: Sequence[Sequence[_Row]]) -> list[_Row]:
    """Rows of several walks, each once; as many as any of them has are the first ones of all."""
    rows = {row[1]: row for rows in found for row in rows}
    return sorted(rows.values(), key=lambda row: (-row[7], -row[5], row[1]))


def _ranked(
    connection: sqlite3.Connection, plan: plans.Ranked, position: ListPosition | None, limit: int
) -> list[_Row]:
    """The first rows after a position, of runs whose order is known before their list rows are read.

    They are read a piece of the order at a time: down to the place of the last of so many, all that have the same place
    included. A filter that lets few of them through makes the pieces larger.
    """
    rows: list[_Row] = []
    candidates = f"({plan.rows}) AS i"
    above, behind = "1 = 1", "1 = 1"
    above_parameters: tuple[object, ...] = ()
    behind_parameters: tuple[object, ...] = ()
    if position is not None:
        closed, started, run_id = position
        above, above_parameters = f"{_PLACE} <= (?, ?)", (closed, started)
        behind = "(v.close_key < ? OR v.start_time_ns < ? OR v.run_id > ?)"
        behind_parameters = (closed, started, run_id)
    size = PIECE * limit
    conditions = " AND ".join([*plan.conditions, behind])
    while True:
        last = connection.execute(
            f"SELECT i.close_key, i.start_time_ns FROM {candidates} WHERE {above} "  # noqa: S608
            "ORDER BY 1 DESC, 2 DESC LIMIT 1 OFFSET ?",
            (*plan.parameters, *above_parameters, size - 1),
        ).fetchone()
        piece = f"{above} AND {_PLACE} >= (?, ?)" if last else above
        rows += connection.execute(
            f"SELECT {COLUMNS} FROM (SELECT DISTINCT i.run_row FROM {candidates} WHERE {piece}) AS c "  # noqa: S608
            f"CROSS JOIN visibility AS v ON v.run_row = c.run_row WHERE {conditions} {_ORDER.format('v')} LIMIT ?",
            (
                *plan.parameters,
                *above_parameters,
                *(last or ()),
                *plan.condition_parameters,
                *behind_parameters,
                limit - len(rows),
            ),
        ).fetchall()
        if last is None or len(rows) >= limit:
            return rows
        above, above_parameters = f"{_PLACE} < (?, ?)", last
        size *= GROWTH


def count_runs(
    connection: sqlite3.Connection, namespace: int, where: Node | None, group_by: str | None
) -> Sequence[tuple[object, int]]:
    """See `Store.count_runs`."""
    group = column_of(group_by, AttributeType.KEYWORD) if group_by else "NULL"
    with snapshot(connection):
        plan = plans.for_count(connection, namespace, where, group_by)
        rows = connection.execute(
            f"SELECT {group} AS grouped, {plan.counted} FROM {plan.tables} "  # noqa: S608
            f"WHERE {' AND '.join(plan.conditions)} " + ("GROUP BY grouped" if group_by else ""),
            plan.parameters,
        ).fetchall()
    return sort_groups(rows)


def _ranges_after(position: ListPosition | None, alias: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    """What follows a position, as ranges of the index one after the other, so that no row before it is read."""
    if position is None:
        yield "1 = 1", ()
        return
    closed, started, run_id = position
    yield f"{alias}.close_key = ? AND {alias}.start_time_ns = ? AND v.run_id > ?", (closed, started, run_id)
    yield f"{alias}.close_key = ? AND {alias}.start_time_ns < ?", (closed, started)
    yield f"{alias}.close_key < ?", (closed,)


def cursor_after(last: ListedRun) -> bytes:
    """The cursor of the page after the one that ends with this run."""
    closed = close_key(last.record.close_time_ns)
    return encode_cursor(ListPosition(closed, last.record.start_time_ns, last.run.run_id))


def listed(namespace_id: str, row: tuple[Any, ...], kind: RunKind = RunKind.WORKFLOW) -> ListedRun:
    """A row of `COLUMNS` as lists show it."""
    closed, attributes = row[7], row[17]
    record = VisibilityRecord(
        workflow_type=row[2],
        task_queue=row[3],
        status=row[4],
        start_time_ns=row[5],
        execution_time_ns=row[6],
        close_time_ns=None if closed == OPEN_CLOSE_KEY else closed,
        history_length=row[8],
        history_size_bytes=row[9],
        state_transition_count=row[10],
        parent_workflow_id=row[11],
        parent_run_id=row[12],
        root_workflow_id=row[13],
        root_run_id=row[14],
        memo=row[15],
        search_attributes=row[16],
        attributes={} if attributes == "{}" else json.loads(attributes),
    )
    return ListedRun(RunKey(namespace_id, row[0], row[1], kind), record)
