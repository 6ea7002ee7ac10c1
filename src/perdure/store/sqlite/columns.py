"""Where the database keeps what filters name: attributes and conditions on them as SQL.

Lives here: expressions on one row of `visibility`, called `v`. May not: which rows are looked at (`plans.py`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from perdure.core.visibility import And, Attribute, AttributeType, IsNull, Node, Not, Or, text_tokens, to_sql
from perdure.store.cursor import OPEN_CLOSE_KEY

CLOSED: Final = f"v.close_key < {OPEN_CLOSE_KEY}"


def _sized(column: str, live: str) -> str:
    """A size: of a closed run from its list row, of an open one from the row that each transition writes."""
    return f"CASE WHEN {CLOSED} THEN v.{column} ELSE (SELECT r.{live} FROM runs AS r WHERE r.run_row = v.run_row) END"  # noqa: S608


SYSTEM_COLUMNS: Final[Mapping[str, str]] = {
    "WorkflowId": "v.workflow_id",
    "RunId": "v.run_id",
    "WorkflowType": "v.workflow_type",
    "StartTime": "v.start_time_ns",
    "ExecutionTime": "v.execution_time_ns",
    "CloseTime": f"nullif(v.close_key, {OPEN_CLOSE_KEY})",
    "ExecutionStatus": "v.status",
    "TaskQueue": "v.task_queue",
    "HistoryLength": _sized("history_length", "last_event_id"),
    "HistorySizeBytes": _sized("history_size_bytes", "history_size_bytes"),
    "ExecutionDuration": f"CASE WHEN {CLOSED} THEN v.close_key - v.execution_time_ns END",
    "StateTransitionCount": _sized("state_transition_count", "transition_count"),
    "ParentWorkflowId": "v.parent_workflow_id",
    "ParentRunId": "v.parent_run_id",
    "RootWorkflowId": "v.root_workflow_id",
    "RootRunId": "v.root_run_id",
    "TemporalNamespaceDivision": "v.division",
}

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

WORDS_FUNCTION: Final = "perdure_words"


def add_functions(connection: sqlite3.Connection) -> None:
    """Registers the SQL functions that filters need on a connection."""
    connection.create_function(
        WORDS_FUNCTION,
        1,
        lambda text: json.dumps(text_tokens(text)) if isinstance(text, str) else "[]",
        deterministic=True,
    )


def condition(where: Node) -> tuple[str, list[object]]:
    """A filter as a condition on `v`, and its parameters."""
    types = {attribute.name: attribute.type for attribute in attributes_of(where)}

    def membership(name: str, values: Sequence[str], bind: Callable[[object], str], /) -> str:
        return _membership(name, types[name], [bind(value) for value in values])

    asked = set(_asked_for_absence(where))

    def column(name: str) -> str:
        found = column_of(name, types[name])
        # SQLite knows which columns are never NULL, and then has no plan for an index that it was told to use.
        return f"coalesce({found}, NULL)" if name in asked else found

    return to_sql(where, column, membership=membership)


def _asked_for_absence(node: Node) -> Iterator[str]:
    """Built-in attributes that a filter wants to be missing."""
    if isinstance(node, And | Or):
        for child in node.children:
            yield from _asked_for_absence(child)
    elif isinstance(node, Not):
        yield from _asked_for_absence(node.child)
    elif isinstance(node, IsNull) and node.attribute.name in SYSTEM_COLUMNS:
        yield node.attribute.name


def attributes_of(node: Node) -> Iterator[Attribute]:
    """Every attribute that a filter names."""
    if isinstance(node, And | Or):
        for child in node.children:
            yield from attributes_of(child)
    elif isinstance(node, Not):
        yield from attributes_of(node.child)
    else:
        yield node.attribute


def column_of(name: str, attribute_type: AttributeType) -> str:
    """The value of an attribute. `json_each` rather than a path, because a name may hold any character."""
    if name in SYSTEM_COLUMNS:
        return SYSTEM_COLUMNS[name]
    types = ", ".join(map(_quoted, _JSON_TYPES[attribute_type]))
    return (
        f"(SELECT a.value FROM json_each(v.attributes) AS a "  # noqa: S608
        f"WHERE a.key = {_quoted(name)} AND a.type IN ({types}))"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


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
