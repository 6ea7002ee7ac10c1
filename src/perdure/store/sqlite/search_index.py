"""Search attributes by value: the rows that lead from a value to the runs that have it, written with the list row.

Lives here: what is indexed and how it changes. May not: how filters use it (`plans.py`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from perdure.core.run.records import AttributeValue, Text
from perdure.core.visibility import AttributeType, text_tokens
from perdure.store.sqlite import queries

DIVISION: Final = "TemporalNamespaceDivision"
"""It has a column of its own in the list row, so it is not indexed here."""

WITHOUT_KEYS: Final = b""
"""What a list without elements and a text without words stand under: no filter means it, but the removal of their
attribute finds them by it."""

MAX_CACHED_KEYS: Final = 10_000

encode_attributes: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""The JSON that filters read. A number that is not finite is an error: SQLite's JSON has none, and none can be set."""

_STRING, _TEXT, _INTEGER, _REAL, _BOOLEAN, _LIST = (1 << bit for bit in range(6))

_KIND_OF: Final[Mapping[type, int]] = {
    str: _STRING,
    Text: _TEXT,
    int: _INTEGER,
    float: _REAL,
    bool: _BOOLEAN,
    list: _LIST,
}

_OWN_KINDS: Final[Mapping[AttributeType, int]] = {
    AttributeType.TEXT: _TEXT,
    AttributeType.KEYWORD: _STRING,
    AttributeType.INT: _INTEGER,
    AttributeType.DOUBLE: _REAL | _INTEGER,
    AttributeType.BOOL: _BOOLEAN,
    AttributeType.DATETIME: _INTEGER,
    AttributeType.KEYWORD_LIST: _LIST,
}


def serves(kinds: int, attribute_type: AttributeType) -> bool:
    """Whether an index in which these kinds of values were kept has exactly what a filter of this type means."""
    return not kinds & ~_OWN_KINDS[attribute_type]


class Place(NamedTuple):
    """What of a list row stands in each of its index rows."""

    close_key: int
    start_time_ns: int
    status: int
    division: str | None


_Row = tuple[int, object, int, int, int, int, str | None]


class SearchIndex:
    """Writes the index on the writer's connection.

    Args:
        execute: runs a statement inside the transaction under way.
    """

    def __init__(self, execute: Callable[..., sqlite3.Cursor]) -> None:
        self._execute = execute
        self._keys: dict[tuple[int, str], tuple[int, int]] = {}

    def forget(self, execute: Callable[..., sqlite3.Cursor]) -> None:
        """Drops what was learnt from rows that may not have been committed; goes on with another connection."""
        self._execute = execute
        self._keys.clear()

    def added(self, namespace: int, row: int, place: Place, attributes: Mapping[str, AttributeValue]) -> None:
        """Indexes a run that had no list row."""
        for index_row in self._rows(namespace, row, place, attributes):
            self._execute(queries.ADD_ATTRIBUTE_VALUE, index_row)

    def changes(
        self, namespace: int, row: int, place: Place | None, attributes: Mapping[str, AttributeValue]
    ) -> None:
        """Replaces the index rows of a run whose list row is about to be replaced, or deleted (no `place`)."""
        found = self._execute(queries.FIND_LIST_ROW, (row,)).fetchone()
        if found is None:
            if place is not None and attributes:
                self.added(namespace, row, place, attributes)
            return
        *old_place, old_attributes = found
        if old_attributes == "{}" and not attributes:
            return
        old = set(self._rows(namespace, row, Place(*old_place), json.loads(old_attributes), is_read=True))
        new = set() if place is None else set(self._rows(namespace, row, place, attributes))
        for index_row in old - new:
            self._execute(queries.DELETE_ATTRIBUTE_VALUE, index_row[:5])
        for index_row in new - old:
            self._execute(queries.ADD_ATTRIBUTE_VALUE, index_row)

    def _rows(
        self,
        namespace: int,
        row: int,
        place: Place,
        attributes: Mapping[str, AttributeValue],
        *,
        is_read: bool = False,
    ) -> Iterable[_Row]:
        for name, value in attributes.items():
            if name == DIVISION:
                continue
            attribute, kinds = self._key(namespace, name, 0 if is_read else _KIND_OF.get(type(value), 0))
            for key in _keys_of(value, kinds if is_read else _KIND_OF.get(type(value), 0)):
                yield (
                    attribute,
                    key,
                    place.close_key,
                    place.start_time_ns,
                    row,
                    place.status,
                    place.division,
                )

    def _key(self, namespace: int, name: str, kind: int) -> tuple[int, int]:
        """The number of an attribute and the kinds of values it has had; `kind` is added to them."""
        known = self._keys.get((namespace, name))
        if known is None:
            known = self._execute(queries.FIND_ATTRIBUTE_KEY, (namespace, name)).fetchone()
        if known is None:
            number = self._execute(queries.ADD_ATTRIBUTE_KEY, (namespace, name, kind)).lastrowid or 0
            known = (number, kind)
        elif kind & ~known[1]:
            known = (known[0], known[1] | kind)
            self._execute(queries.SET_ATTRIBUTE_KINDS, (known[1], known[0]))
        if len(self._keys) >= MAX_CACHED_KEYS:
            self._keys.clear()
        self._keys[namespace, name] = known
        return known

    def purge(self, namespace: int, name: str, limit: int) -> int:
        """See `Store.purge_attribute`."""
        self._keys.pop((namespace, name), None)
        found = self._execute(queries.FIND_ATTRIBUTE_KEY, (namespace, name)).fetchone()
        if found is None:
            return 0
        attribute = found[0]
        rows = self._execute(queries.FIND_ATTRIBUTE_VALUES, (attribute, limit)).fetchall()
        for run_row, *key in rows:
            found = self._execute(queries.FIND_LIST_ROW, (run_row,)).fetchone()
            attributes: dict[str, Any] = json.loads(found[-1]) if found is not None else {}
            if attributes.pop(name, None) is not None:
                self._execute(queries.SET_ATTRIBUTES, (encode_attributes(attributes), run_row))
            self._execute(queries.DELETE_ATTRIBUTE_VALUE, (attribute, *key, run_row))
        if not rows:
            self._execute(queries.DELETE_ATTRIBUTE_KEY, (attribute,))
        return len(rows)


def _keys_of(value: AttributeValue, kinds: int) -> Iterable[object]:
    """What a value is found by: itself, its elements or its words, or `WITHOUT_KEYS`."""
    if isinstance(value, list):
        return dict.fromkeys(value) or (WITHOUT_KEYS,)
    if isinstance(value, str):
        keys: dict[object, None] = {}
        if kinds & _STRING:
            keys[str(value)] = None
        if kinds & _TEXT:
            keys.update(dict.fromkeys(text_tokens(value) or (WITHOUT_KEYS,)))
        return keys
    return (int(value) if isinstance(value, bool) else value,)
