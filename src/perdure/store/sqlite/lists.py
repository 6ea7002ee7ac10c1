"""Lists and counts of runs: keyset paging over what `plans.py` says is to be read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

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
    rows: list[ListedRun] = []
    with snapshot(connection):
        plan = plans.for_list(connection, namespace, where)
        for range_condition, range_parameters in _ranges_after(position, plan.ordered_by):
            condition = " AND ".join([*plan.conditions, range_condition])
            found = connection.execute(
                f"SELECT {COLUMNS} FROM {plan.tables} WHERE {condition} "  # noqa: S608
                f"{_ORDER.format(plan.ordered_by)} LIMIT ?",
                (*plan.parameters, *range_parameters, page_size + 1 - len(rows)),
            ).fetchall()
            rows.extend(listed(namespace_id, row, kind) for row in found)
            if len(rows) > page_size:
                break
    if len(rows) <= page_size:
        return ListPage(tuple(rows), None)
    del rows[page_size:]
    return ListPage(tuple(rows), cursor_after(rows[-1]))


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
