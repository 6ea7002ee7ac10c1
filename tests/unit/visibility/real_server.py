"""What Temporal's server 1.32.0 (the development server, on SQLite) answered to queries, and where we differ.

Four workflows were there: see `RECORDS`. A row's `ids` are those it listed, `error` is its INVALID_ARGUMENT message (or
the text of another error, where it should have been one). `ours` is our answer where it is another, and `why` names
the reason. The rows are in `real_server.jsonl`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from perdure.core.visibility import AttributeType


class Row(NamedTuple):
    """One query and its answers."""

    query: str
    ids: str | None = None
    error: str | None = None
    ours: str | None = None
    why: str = ""


CUSTOM_ATTRIBUTES = {
    "Kw": AttributeType.KEYWORD,
    "Num": AttributeType.INT,
    "Dbl": AttributeType.DOUBLE,
    "Flag": AttributeType.BOOL,
    "When": AttributeType.DATETIME,
    "Txt": AttributeType.TEXT,
    "Tags": AttributeType.KEYWORD_LIST,
    "My-Odd Name": AttributeType.KEYWORD,
    "Order": AttributeType.KEYWORD,
    "Status": AttributeType.KEYWORD,
    "Date": AttributeType.DATETIME,
}

_SECOND_NS = 1_000_000_000


def nanoseconds(moment: datetime) -> int:
    """A datetime of whole seconds as records hold it."""
    return int(moment.timestamp()) * _SECOND_NS


_START_NS = nanoseconds(datetime(2026, 5, 28, tzinfo=UTC))
_CLOSED: dict[str, object] = {
    "CloseTime": _START_NS + _SECOND_NS,
    "ExecutionDuration": 100_000_000,
    "HistoryLength": 3,
    "HistorySizeBytes": 100,
    "StateTransitionCount": 3,
}


def _record(
    workflow_id: str, workflow_type: str, task_queue: str, status: int, **attributes: object
) -> dict[str, object]:
    return {
        "WorkflowId": workflow_id,
        "RunId": f"run-{workflow_id}",
        "WorkflowType": workflow_type,
        "TaskQueue": task_queue,
        "StartTime": _START_NS,
        "ExecutionTime": _START_NS,
        "ExecutionStatus": status,
        "RootWorkflowId": workflow_id,
        "RootRunId": f"run-{workflow_id}",
        **(_CLOSED if status == 5 else {}),
        **attributes,
    }


RECORDS = (
    _record(
        "a",
        "TypeA",
        "q",
        1,
        Kw="alpha",
        Num=1,
        Dbl=1.5,
        Flag=True,
        When=nanoseconds(datetime(2024, 1, 1, tzinfo=UTC)),
        Txt="hello big world",
        Tags=["x", "y z"],
    ),
    _record(
        "b",
        "TypeB",
        "q",
        5,
        Kw="Beta_1",
        Num=2,
        Dbl=2.5,
        Flag=False,
        When=nanoseconds(datetime(2025, 6, 1, 12, tzinfo=UTC)),
        Txt="Hello-there, w\u00f6rld",
        Tags=["y z"],
    ),
    _record("c", "TypeA", "q", 1),
    _record("d", "TypeB", "q2", 5, Kw="be%ta'x", Num=-3, Tags=["X"]),
)

REASONS = {
    "WORDING": "the same refusal in other words: no Go types, positions within the query, what to do instead",
    "CASE": "case matters, as documented and as on its PostgreSQL store; its SQLite store folds it",
    "INSTANT": "datetimes are compared as instants; its SQLite store compares texts of different precision",
    "WORD": "a search attribute's name may be a word of SQL, also without backquotes",
    "STRICT": "text that it ignores is refused",
    "COLUMN": "names of preallocated columns are not attributes",
    "QUOTES": "a quoted string is taken as it is; it strips further quotes",
    "SPACE": "any Unicode space separates words",
    "LIMIT": "the parser's limits are lower",
}

ROWS = tuple(
    Row(**json.loads(line)) for line in Path(__file__).with_suffix(".jsonl").read_text().splitlines()
)
