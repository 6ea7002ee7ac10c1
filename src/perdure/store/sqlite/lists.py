"""Lists and counts of runs: filters as SQL, keyset paging, and the few shortcuts that keep frequent lists
cheap.

A list walks the index `visibility_in_list_order` and stops when its page is full, so an unfiltered page costs
what it shows. A filter costs one test for each row that is passed over, except where a shortcut applies (see
`_shortcut`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from perdure.core.run.records import RunKey, RunKind, VisibilityRecord
from perdure.core.visibility import (
    And,
    Attribute,
    AttributeType,
    Between,
    Comparison,
    InList,
    Node,
    Not,
    Operator,
    Or,
    text_tokens,
    to_sql,
)
from perdure.store.cursor import OPEN_CLOSE_KEY, ListPosition, close_key, decode_cursor, encode_cursor
from perdure.store.listing import sort_groups
from perdure.store.protocol import ListedRun, ListPage
from perdure.store.sqlite.reads import snapshot

_CLOSED: Final = f"v.close_key < {OPEN_CLOSE_KEY}"

_SYSTEM_COLUMNS: Final[Mapping[str, str]] = {
    "WorkflowId": "v.workflow_id",
    "RunId": "v.run_id",
    "WorkflowType": "v.workflow_type",
    "StartTime": "v.start_time_ns",
    "ExecutionTime": "v.execution_time_ns",
    "CloseTime": f"nullif(v.close_key, {OPEN_CLOSE_KEY})",
    "ExecutionStatus": "v.status",
    "TaskQueue": "v.task_queue",
    "HistoryLength": f"CASE WHEN {_CLOSED} THEN v.history_length END",
    "HistorySizeBytes": f"CASE WHEN {_CLOSED} THEN v.history_size_bytes END",
    "ExecutionDuration": f"CASE WHEN {_CLOSED} THEN v.close_key - v.execution_time_ns END",
    "StateTransitionCount": f"CASE WHEN {_CLOSED} THEN v.state_transition_count END",
    "ParentWorkflowId": "v.parent_workflow_id",
    "ParentRunId": "v.parent_run_id",
    "RootWorkflowId": "v.root_workflow_id",
    "RootRunId": "v.root_run_id",
    "TemporalNamespaceDivision": "v.division",
}

_CLOSED_STATUSES: Final = frozenset(range(2, 8))
"""Numbers of WorkflowExecutionStatus from COMPLETED to TIMED_OUT: what only a run with a close time has."""

_CLOSE_KEYS: Final[Mapping[object, str]] = {
    1: f"v.close_key = {OPEN_CLOSE_KEY}",
    **dict.fromkeys(_CLOSED_STATUSES, _CLOSED),
}
"""What a status says of the close time; 1 is RUNNING. Other statuses say nothing."""

_JSON_TYPES: Final[Mapping[AttributeType, tuple[str, ...]]] = {
    AttributeType.TEXT: ("text",),
    AttributeType.KEYWORD: ("text",),
    AttributeType.INT: ("integer", "true", "false"),
    AttributeType.DOUBLE: ("real", "integer", "true", "false"),
    AttributeType.BOOL: ("true", "false"),
    AttributeType.DATETIME: ("integer", "true", "false"),
    AttributeType.KEYWORD_LIST: ("array",),
}
"""What `json_each` calls the types that pass for an attribute's type; another type is a missing value."""

_COLUMNS: Final = """
    v.workflow_id, v.run_id, v.workflow_type, v.task_queue, v.status, v.start_time_ns, v.execution_time_ns, v.close_key,
    v.history_length, v.history_size_bytes, v.state_transition_count, v.parent_workflow_id, v.parent_run_id,
    v.root_workflow_id, v.root_run_id, v.memo, v.search_attributes, v.attributes
"""
_ORDER: Final = "ORDER BY v.close_key DESC, v.start_time_ns DESC, v.run_id"

WORDS_FUNCTION: Final = "perdure_words"


def add_functions(connection: sqlite3.Connection) -> None:
    """Registers the SQL functions that filters need on a connection."""
    connection.create_function(
        WORDS_FUNCTION,
        1,
        lambda text: json.dumps(text_tokens(text)) if isinstance(text, str) else "[]",
        deterministic=True,
    )


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
    selection = _select(where)
    rows: list[ListedRun] = []
    with snapshot(connection):
        for range_condition, range_parameters in _ranges_after(decode_cursor(cursor) if cursor else None):
            condition = " AND ".join([*selection.conditions, range_condition])
            found = connection.execute(
                f"SELECT {_COLUMNS} FROM {selection.tables} WHERE {condition} {_ORDER} LIMIT ?",  # noqa: S608
                (namespace, *selection.parameters, *range_parameters, page_size + 1 - len(rows)),
            ).fetchall()
            rows.extend(_listed(namespace_id, row, kind) for row in found)
            if len(rows) > page_size:
                break
    if len(rows) <= page_size:
        return ListPage(tuple(rows), None)
    del rows[page_size:]
    last = rows[-1]
    position = ListPosition(close_key(last.record.close_time_ns), last.record.start_time_ns, last.run.run_id)
    return ListPage(tuple(rows), encode_cursor(position))


def count_runs(
    connection: sqlite3.Connection, namespace: int, where: Node | None, group_by: str | None
) -> Sequence[tuple[object, int]]:
    """See `Store.count_runs`."""
    selection = _select(where)
    group = _SYSTEM_COLUMNS.get(group_by) or _custom(group_by, AttributeType.KEYWORD) if group_by else "NULL"
    condition = " AND ".join(selection.conditions)
    rows = connection.execute(
        f"SELECT {group} AS value, count(*) FROM {selection.tables} WHERE {condition} "  # noqa: S608
        + ("GROUP BY value" if group_by else ""),
        (namespace, *selection.parameters),
    ).fetchall()
    return sort_groups(rows)


def _ranges_after(position: ListPosition | None) -> Iterator[tuple[str, tuple[object, ...]]]:
    """What follows a position, as ranges of the index one after the other, so that no row before it is read."""
    if position is None:
        yield "1 = 1", ()
        return
    closed, started, run_id = position
    yield "v.close_key = ? AND v.start_time_ns = ? AND v.run_id > ?", (closed, started, run_id)
    yield "v.close_key = ? AND v.start_time_ns < ?", (closed, started)
    yield "v.close_key < ?", (closed,)


def _listed(namespace_id: str, row: tuple[Any, ...], kind: RunKind) -> ListedRun:
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


# --- filters


@dataclass(frozen=True, slots=True)
class _Selection:
    """Where to look and what must hold. The first parameter of the conditions is the namespace."""

    tables: str
    conditions: tuple[str, ...]
    parameters: tuple[object, ...]
    """All but the first."""


def _select(where: Node | None) -> _Selection:
    if where is None:
        return _Selection("visibility AS v", ("v.namespace = ?",), ())
    types = {attribute.name: attribute.type for attribute in _attributes(where)}

    def column_of(name: str) -> str:
        return _SYSTEM_COLUMNS.get(name) or _custom(name, types[name])

    def membership(name: str, values: Sequence[str], bind: Callable[[object], str], /) -> str:
        return _membership(name, types[name], [bind(value) for value in values])

    condition, parameters = to_sql(where, column_of, membership=membership)
    tables, first_conditions, first_parameters = _shortcut(where)
    return _Selection(tables, (*first_conditions, condition), (*first_parameters, *parameters))


def _attributes(node: Node) -> Iterator[Attribute]:
    if isinstance(node, And | Or):
        for child in node.children:
            yield from _attributes(child)
    elif isinstance(node, Not):
        yield from _attributes(node.child)
    else:
        yield node.attribute


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _custom(name: str, attribute_type: AttributeType) -> str:
    """The value of a search attribute. `json_each` rather than a path, because a name may hold any character."""
    types = ", ".join(map(_quoted, _JSON_TYPES[attribute_type]))
    return (
        f"(SELECT a.value FROM json_each(v.attributes) AS a "  # noqa: S608
        f"WHERE a.key = {_quoted(name)} AND a.type IN ({types}))"
    )


def _membership(name: str, attribute_type: AttributeType, placeholders: Sequence[str]) -> str:
    members = (
        f"CASE a.type WHEN 'text' THEN {WORDS_FUNCTION}(a.value) ELSE '[]' END"
        if attribute_type is AttributeType.TEXT
        else "CASE a.type WHEN 'array' THEN a.value ELSE '[]' END"
    )
    return (
        f"EXISTS (SELECT 1 FROM json_each(v.attributes) AS a CROSS JOIN json_each({members}) AS m "  # noqa: S608
        f"WHERE a.key = {_quoted(name)} AND m.value IN ({', '.join(placeholders)}))"
    )


# --- shortcuts: what the top level of a filter says about where to look; the filter itself is applied all the
# same


def _shortcut(where: Node) -> tuple[str, list[str], list[object]]:
    """Tables to walk, and conditions that the filter implies and an index can use.

    One workflow id or one run id is looked up; open or closed runs and ranges of close times bound the walk.
    """
    conditions: list[str] = []
    parameters: list[object] = []
    for node in where.children if isinstance(where, And) else (where,):
        match node:
            case Comparison(Attribute("WorkflowId"), Operator.EQUAL, value):
                return (
                    "workflow_runs AS w CROSS JOIN visibility AS v ON v.run_row = w.run_row",
                    ["w.namespace = ?", "w.workflow_id = ?"],
                    [value],
                )
            case Comparison(Attribute("RunId"), Operator.EQUAL, value):
                return (
                    "runs AS r CROSS JOIN visibility AS v ON v.run_row = r.run_row",
                    ["r.namespace = ?", "r.run_id = ?"],
                    [value],
                )
            case Comparison(Attribute("ExecutionStatus"), Operator.EQUAL, value) if value in _CLOSE_KEYS:
                conditions.append(_CLOSE_KEYS[value])
            case InList(Attribute("ExecutionStatus"), values) if _CLOSED_STATUSES.issuperset(values):
                conditions.append(_CLOSED)
            case Comparison(Attribute("CloseTime"), operator, value) if operator is not Operator.NOT_EQUAL:
                conditions.append(f"v.close_key {operator.value} ? AND {_CLOSED}")
                parameters.append(value)
            case Between(Attribute("CloseTime"), low, high):
                conditions.append(f"v.close_key BETWEEN ? AND ? AND {_CLOSED}")
                parameters += [low, high]
    return "visibility AS v", ["v.namespace = ?", *conditions], parameters
