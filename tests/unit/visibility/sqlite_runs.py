"""Asks SQLite what a filter's SQL answers: a table of records as JSON, in memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from perdure.core.visibility import Node, text_tokens, to_sql
from perdure.core.visibility.sql import Bind

_WORDS = "#words"


def _path(attribute: str) -> str:
    return "'$." + json.dumps(attribute, ensure_ascii=False).replace("'", "''") + "'"


def column_of(attribute: str) -> str:
    """The SQL expression of an attribute's value."""
    return f"json_extract(record, {_path(attribute)})"


class Runs:
    """A database with one row per record.

    Args:
        records: attribute names to typed values.
        texts: names of the Text attributes, whose words are indexed.
    """

    def __init__(self, records: Iterable[Mapping[str, object]], texts: Sequence[str] = ()) -> None:
        self._texts = texts
        self._database = sqlite3.connect(":memory:")
        self._database.execute("CREATE TABLE runs (number INTEGER, record TEXT)")
        self._database.executemany(
            "INSERT INTO runs VALUES (?, ?)",
            [(number, json.dumps(self._stored(record))) for number, record in enumerate(records)],
        )

    def close(self) -> None:
        """Forget everything."""
        self._database.close()

    def select(self, node: Node | None) -> list[int]:
        """The numbers of the records that a filter lets through."""
        condition, parameters = (
            ("1 = 1", []) if node is None else to_sql(node, column_of, membership=self._membership)
        )
        statement = f"SELECT number FROM runs WHERE {condition} AND number >= 0 ORDER BY number"
        return [number for (number,) in self._database.execute(statement, parameters)]

    def _stored(self, record: Mapping[str, object]) -> dict[str, object]:
        words = {
            name + _WORDS: text_tokens(str(record[name]))
            for name in self._texts
            if record.get(name) is not None
        }
        return {**record, **words}

    def _membership(self, attribute: str, values: Sequence[str], bind: Bind, /) -> str:
        name = attribute + _WORDS if attribute in self._texts else attribute
        placeholders = ", ".join(bind(value) for value in values)
        return f"EXISTS (SELECT 1 FROM json_each(record, {_path(name)}) WHERE value IN ({placeholders}))"
