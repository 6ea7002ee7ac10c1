"""Where a list or count looks: which rows are read to answer a filter. See decision record 21.

A plan is a superset of the matching runs that costs little to read; the filter itself is applied to it, except where
the index has exactly what the filter means. Lives here: sources and the choice among them. May not: pages, rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from perdure.core.visibility import (
    And,
    Between,
    Comparison,
    ContainsAny,
    InList,
    Node,
    Operator,
    Or,
    StartsWith,
)
from perdure.core.visibility.sql import prefix_end
from perdure.store.cursor import OPEN_CLOSE_KEY
from perdure.store.sqlite import queries
from perdure.store.sqlite.columns import SYSTEM_COLUMNS, attributes_of, condition
from perdure.store.sqlite.search_index import DIVISION, serves

GATHER_LIMIT: Final = 2_000
"""So many runs are looked up one by one and sorted; of more, those are walked that the order of lists has first."""

LARGE_GATHER_LIMIT: Final = 50_000
"""So many are looked up, or put in order in the index, where nothing shorter than the whole list could be walked."""

MERGED_WALKS: Final = 8
"""Alternatives that are walked side by side: each is read as far as a page goes."""

MAX_ALTERNATIVES: Final = 50
"""Operands of an OR that are looked up each for itself."""

_SUMMED: Final = frozenset({"WorkflowType", "ExecutionStatus", DIVISION})
_IN_INDEX: Final = frozenset({"ExecutionStatus", "CloseTime", "StartTime", DIVISION})
"""Attributes whose columns the index of search attributes has beside the value."""

_CLOSED_STATUSES: Final = frozenset(range(2, 8))
"""Numbers of WorkflowExecutionStatus from COMPLETED to TIMED_OUT: what only a run with a close time has."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What stands behind FROM and WHERE.

    Attributes:
        tables: have `v`, the list row or what stands in for it.
        ordered_by: the table whose `close_key` and `start_time_ns` have the order of lists.
        conditions: what must hold.
        parameters: of the tables, then of the conditions.
        counted: what a count counts.
    """

    tables: str
    conditions: tuple[str, ...]
    parameters: tuple[object, ...]
    ordered_by: str = "v"
    counted: str = "count(*)"


@dataclass(frozen=True, slots=True)
class Ranked:
    """Runs that are put into the order of lists by what the index has of them, before their list rows are read.

    Attributes:
        rows: a SELECT of `run_row`, `close_key` and `start_time_ns`, some of them perhaps twice; and its parameters.
        parameters: of `rows`.
        conditions: what must hold of the list row `v`.
        condition_parameters: of those.
    """

    rows: str
    parameters: tuple[object, ...]
    conditions: tuple[str, ...]
    condition_parameters: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """Rows that are a superset of what a condition lets through.

    Attributes:
        table: which rows; `{where}` in place of more conditions.
        test: the condition on its columns.
        parameters: of the test.
        walk: the same rows in the order of lists, as tables and the alias of the one with the order.
        leaf: the condition, if exactly its runs are found.
        has_order: the rows have the columns of the index of search attributes, times and status among them.
        arms: sources with a walk that together have the same runs, if there are several.
    """

    table: str
    test: str
    parameters: tuple[object, ...]
    walk: tuple[str, str] | None = None
    leaf: Node | None = None
    has_order: bool = False
    arms: tuple[_Source, ...] = ()

    @property
    def rows(self) -> str:
        """A SELECT of their `run_row`, some perhaps twice; of the index's other columns too if they have them."""
        columns = _INDEX_COLUMNS if self.has_order else "i.run_row"
        return f"SELECT {columns} FROM {self.table} WHERE {self.test}"  # noqa: S608


_INDEX_COLUMNS: Final = "i.run_row, i.close_key, i.start_time_ns, i.status, i.division"
_BY_ATTRIBUTE: Final = "attribute_values AS i"
_WALK_ATTRIBUTE: Final = ("attribute_values AS i CROSS JOIN visibility AS v ON v.run_row = i.run_row", "i")


def for_list(
    connection: sqlite3.Connection, namespace: int, where: Node | None, *, is_first: bool = True
) -> Ranked | tuple[Plan, ...]:
    """The plan of a list: one, or several whose rows are to be merged and are found by any of them.

    Args:
        connection: to the database.
        namespace: its row.
        where: the filter.
        is_first: of its first page.
    """
    walk = partial(_walk, namespace, where, is_first=is_first)
    if where is None:
        return (walk(None),)
    sources = list(_sources(connection, namespace, where))
    smallest = _smallest(connection, sources, GATHER_LIMIT)
    if smallest is not None:
        return (walk(smallest),) if smallest.walk is not None else _in_order(namespace, where, smallest)
    for source in sources:
        if source.walk is not None:
            return (walk(source),)
        if source.arms:
            return tuple(walk(arm) for arm in source.arms)
    smallest = _smallest(connection, sources, LARGE_GATHER_LIMIT)
    return (walk(None),) if smallest is None else _in_order(namespace, where, smallest)


def _in_order(namespace: int, where: Node, source: _Source) -> Ranked | tuple[Plan, ...]:
    """A source that is small and not walked: put in order, by its index if that has the order."""
    if not source.has_order:
        return (_gather(namespace, where, source),)
    text, parameters = _rest(where, source.leaf)
    return Ranked(source.rows, source.parameters, ("v.namespace = ?", text), (namespace, *parameters))


def for_count(
    connection: sqlite3.Connection, namespace: int, where: Node | None, group_by: str | None
) -> Plan:
    """The plan of a count."""
    named = set() if where is None else {attribute.name for attribute in attributes_of(where)}
    grouped = named | ({group_by} if group_by else set())
    if grouped <= _SUMMED:
        return _sums(namespace, where)
    if where is None:
        return _walk(namespace, None, None)
    sources = list(_sources(connection, namespace, where))
    if group_by is None or group_by in _IN_INDEX:
        for source in sources:
            exact = _index_alone(source, where)
            if exact is not None:
                return exact
    return _best(connection, namespace, where, sources)


def few(connection: sqlite3.Connection, namespace: int, where: Node) -> Plan | None:
    """The plan that looks up the runs of a filter, if they are few."""
    smallest = _smallest(connection, list(_sources(connection, namespace, where)), GATHER_LIMIT)
    return None if smallest is None else _gather(namespace, where, smallest)


def _best(connection: sqlite3.Connection, namespace: int, where: Node, sources: Sequence[_Source]) -> Plan:
    """Few runs looked up, or many walked in their order, or more of them looked up, or the list."""
    walked = next((source for source in sources if source.walk is not None), None)
    limits = (GATHER_LIMIT,) if walked is not None else (GATHER_LIMIT, LARGE_GATHER_LIMIT)
    for limit in limits:
        smallest = _smallest(connection, sources, limit)
        if smallest is not None:
            return _gather(namespace, where, smallest)
    return _walk(namespace, where, walked)


def _sums(namespace: int, where: Node | None) -> Plan:
    """A count from the table of sums, whose columns are named as those of list rows."""
    tables = (
        "(SELECT namespace, workflow_type, status, nullif(division, 0) AS division, runs"
        " FROM visibility_counts WHERE runs > 0) AS v"
    )
    text, parameters = ("1 = 1", []) if where is None else condition(where)
    return Plan(
        tables, ("v.namespace = ?", text), (namespace, *parameters), counted="coalesce(sum(v.runs), 0)"
    )


def _index_alone(source: _Source, where: Node) -> Plan | None:
    """A count from the index of search attributes, if the filter asks for nothing else."""
    leaf = source.leaf
    if leaf is None or not source.has_order:
        return None
    rest = [node for node in conjuncts(where) if node is not leaf]
    if any(attribute.name not in _IN_INDEX for node in rest for attribute in attributes_of(node)):
        return None
    tests, parameters = [source.test.replace("i.", "v.")], list(source.parameters)
    for node in rest:
        for operator, value in _bounds_of_close_key(node):
            tests.append(f"v.close_key {operator} ?")
            parameters.append(value)
        text, bound = condition(node)
        tests.append(text)
        parameters += bound
    several = isinstance(leaf, Or) or (isinstance(leaf, ContainsAny) and len(leaf.values) > 1)
    counted = "count(DISTINCT v.run_row)" if several else "count(*)"
    tables = source.table.removesuffix(" AS i") + " AS v"
    return Plan(tables, tuple(tests), tuple(parameters), counted=counted)


def _smallest(connection: sqlite3.Connection, sources: Sequence[_Source], limit: int) -> _Source | None:
    """The source with the fewest rows, if any is not over the limit."""
    smallest, size = None, limit + 1
    for source in sources:
        statement = f"SELECT count(*) FROM ({source.rows} LIMIT {size})"  # noqa: S608
        (found,) = connection.execute(statement, source.parameters).fetchone()
        if found < size:
            smallest, size = source, found
    return smallest


def _gather(namespace: int, where: Node, source: _Source) -> Plan:
    """All runs of a source."""
    tables = (
        f"(SELECT DISTINCT run_row FROM ({source.rows})) AS c "  # noqa: S608
        "CROSS JOIN visibility AS v ON v.run_row = c.run_row"
    )
    text, parameters = _rest(where, source.leaf)
    return Plan(tables, ("v.namespace = ?", text), (*source.parameters, namespace, *parameters))


def _walk(namespace: int, where: Node | None, source: _Source | None, *, is_first: bool = True) -> Plan:
    """Rows in the order of lists: those of a source, or all.

    A later page begins at a position, which is the better bound from above: SQLite takes one of several, not always it,
    and would walk all pages before this one.
    """
    tables, alias = "visibility AS v INDEXED BY visibility_in_list_order", "v"
    tests: list[str] = ["v.namespace = ?"]
    parameters: list[object] = [namespace]
    if source is not None and source.walk is not None:
        tables, alias = source.walk
        tests, parameters = [*tests, source.test.replace("i.", f"{alias}.")], [namespace, *source.parameters]
    if where is not None:
        for node in conjuncts(where):
            for operator, value in _bounds_of_close_key(node):
                if is_first or not operator.startswith("<"):
                    tests.append(f"{alias}.close_key {operator} ?")
                    parameters.append(value)
        text, bound_parameters = _rest(where, source.leaf if source is not None else None)
        tests.append(text)
        parameters += bound_parameters
    return Plan(tables, tuple(tests), tuple(parameters), alias)


def conjuncts(where: Node) -> Sequence[Node]:
    """What a filter wants all of."""
    return where.children if isinstance(where, And) else (where,)


def _rest(where: Node, leaf: Node | None) -> tuple[str, list[object]]:
    """What must be asked of runs that were found by `leaf`."""
    nodes = tuple(node for node in conjuncts(where) if node is not leaf)
    if not nodes:
        return "1 = 1", []
    return condition(nodes[0] if len(nodes) == 1 else And(nodes))


def _bounds_of_close_key(node: Node) -> tuple[tuple[str, object], ...]:
    """What a condition says of the close key, as operators and values: they bound a walk."""
    closed = ("<", OPEN_CLOSE_KEY)
    match node:
        case Comparison(attribute, Operator.EQUAL, 1) if attribute.name == "ExecutionStatus":
            return (("=", OPEN_CLOSE_KEY),)
        case Comparison(attribute, Operator.EQUAL, value) if attribute.name == "ExecutionStatus":
            return (closed,) if value in _CLOSED_STATUSES else ()
        case InList(attribute, values) if attribute.name == "ExecutionStatus":
            return (closed,) if _CLOSED_STATUSES.issuperset(values) else ()
        case Comparison(attribute, operator, value) if attribute.name == "CloseTime":
            return () if operator is Operator.NOT_EQUAL else ((operator.value, value), closed)
        case Between(attribute, low, high) if attribute.name == "CloseTime":
            return (">=", low), ("<=", high), closed
    return ()


# --- sources


def _sources(connection: sqlite3.Connection, namespace: int, where: Node) -> Iterator[_Source]:
    """The sources that a filter has: each holds all of its runs."""
    for node in conjuncts(where):
        source = _source(connection, namespace, node)
        if source is not None:
            yield source


def _source(connection: sqlite3.Connection, namespace: int, node: Node) -> _Source | None:
    if isinstance(node, Or):
        return _either(connection, namespace, node)
    if isinstance(node, And):
        return next(_sources(connection, namespace, node), None)
    if not isinstance(node, Comparison | InList | Between | StartsWith | ContainsAny):
        return None
    test = _test(node)
    if test is None:
        return None
    name = node.attribute.name
    if name in _SYSTEM_SOURCES:
        return _SYSTEM_SOURCES[name](namespace, node, *test)
    if name in SYSTEM_COLUMNS:
        return None
    found = connection.execute(queries.FIND_ATTRIBUTE_KEY, (namespace, name)).fetchone()
    if found is None:
        return _Source(_BY_ATTRIBUTE, "i.attribute = -1", (), leaf=node, has_order=True)
    attribute, kinds = found
    if not serves(kinds, node.attribute.type):
        return None
    text, parameters = test
    walk, arms = (_WALK_ATTRIBUTE, ()) if _is_equality(node) else (None, _arms(attribute, node))
    return _Source(
        _BY_ATTRIBUTE,
        f"i.attribute = ? AND {text.format('i.value')}",
        (attribute, *parameters),
        walk,
        node,
        True,
        arms,
    )


def _arms(attribute: int, node: Node) -> tuple[_Source, ...]:
    """The values of a set, each for itself."""
    if not isinstance(node, InList | ContainsAny) or len(node.values) > MERGED_WALKS:
        return ()
    test = "i.attribute = ? AND i.value = ?"
    return tuple(
        _Source(_BY_ATTRIBUTE, test, (attribute, value), _WALK_ATTRIBUTE, node, True) for value in node.values
    )


def _either(connection: sqlite3.Connection, namespace: int, node: Or) -> _Source | None:
    """What one of several conditions lets through, if each has a source."""
    if len(node.children) > MAX_ALTERNATIVES:
        return None
    sources = [_source(connection, namespace, child) for child in node.children]
    found = [source for source in sources if source is not None]
    if len(found) < len(sources):
        return None
    has_order = all(source.has_order for source in found)
    rows = " UNION ALL ".join(
        (source if has_order else replace(source, has_order=False)).rows for source in found
    )
    parameters = tuple(value for source in found for value in source.parameters)
    exact = [source.leaf is child for source, child in zip(found, node.children, strict=True)]
    arms = tuple(
        replace(arm, leaf=node if is_exact else None)
        for source, is_exact in zip(found, exact, strict=True)
        for arm in ((source,) if source.walk is not None else source.arms)
    )
    can_walk = all(source.walk is not None or source.arms for source in found) and len(arms) <= MERGED_WALKS
    leaf = node if all(exact) and has_order else None
    return _Source(
        f"({rows}) AS i", "1 = 1", parameters, leaf=leaf, has_order=has_order, arms=arms if can_walk else ()
    )


def _is_equality(node: Node) -> bool:
    match node:
        case Comparison(_, operator, _):
            return operator is Operator.EQUAL
        case InList(_, values) | ContainsAny(_, values):
            return len(values) == 1
    return False


def _test(node: Node) -> tuple[str, tuple[Any, ...]] | None:
    """A condition as a range or set of the values of an index, and its parameters."""
    match node:
        case Comparison(_, operator, value) if operator is not Operator.NOT_EQUAL:
            return f"{{0}} {operator.value} ?", (value,)
        case InList(_, (value,)) | ContainsAny(_, (value,)):
            return "{0} = ?", (value,)
        case ContainsAny(_, ()):
            return "1 = 0", ()
        case InList(_, values) | ContainsAny(_, values):
            return f"{{0}} IN ({', '.join('?' * len(values))})", tuple(values)
        case Between(_, low, high):
            return "{0} BETWEEN ? AND ?", (low, high)
        case StartsWith(_, prefix):
            end = prefix_end(prefix)
            return ("{0} >= ?", (prefix,)) if end is None else ("{0} >= ? AND {0} < ?", (prefix, end))
    return None


def _indexed(index: str, column: str, extra: str = "", *, has_order: bool = False) -> _OfSystem:
    """The source of a built-in attribute with an index of its own."""

    def source(namespace: int, node: Node, text: str, parameters: tuple[Any, ...]) -> _Source:
        table = f"visibility AS i INDEXED BY {index}"
        walk = (f"visibility AS v INDEXED BY {index}", "v") if has_order and _is_equality(node) else None
        test = f"i.namespace = ? AND {text.format(f'i.{column}')}{extra}"
        return _Source(table, test, (namespace, *parameters), walk)

    return source


def _by_workflow_id(namespace: int, node: Node, text: str, parameters: tuple[Any, ...]) -> _Source:
    test = f"i.namespace = ? AND {text.format('i.workflow_id')}"
    return _Source("workflow_runs AS i", test, (namespace, *parameters))


def _by_run_id(namespace: int, node: Node, text: str, parameters: tuple[Any, ...]) -> _Source:
    return _Source("runs AS i", text.format("i.run_id"), parameters)


def _by_root(namespace: int, node: Node, text: str, parameters: tuple[Any, ...]) -> _Source:
    """Runs below a root, which the index has, and the root's own, which are not in it."""
    below = (
        "SELECT r.run_row FROM visibility AS r INDEXED BY visibility_by_root WHERE r.namespace = ? AND "  # noqa: S608
        f"{text.format('r.root_workflow_id')} AND r.root_workflow_id <> r.workflow_id"
    )
    own = f"SELECT w.run_row FROM workflow_runs AS w WHERE w.namespace = ? AND {text.format('w.workflow_id')}"  # noqa: S608
    return _Source(
        f"({below} UNION ALL {own}) AS i", "1 = 1", (namespace, *parameters, namespace, *parameters)
    )


def _by_status(namespace: int, node: Node, text: str, parameters: tuple[Any, ...]) -> _Source | None:
    if not isinstance(node, Comparison | InList) or not _has_rare_statuses(node):
        return None
    source = _indexed("visibility_by_status", "status", " AND i.status NOT IN (1, 2)", has_order=True)
    return source(namespace, node, text, parameters)


def _has_rare_statuses(node: Comparison | InList) -> bool:
    values = node.values if isinstance(node, InList) else (node.value,)
    is_equal = isinstance(node, InList) or node.operator is Operator.EQUAL
    return is_equal and not {1, 2}.intersection(values)


_OfSystem = Callable[[int, Node, str, tuple[Any, ...]], _Source | None]
_SYSTEM_SOURCES: Final[Mapping[str, _OfSystem]] = {
    "WorkflowId": _by_workflow_id,
    "RunId": _by_run_id,
    "WorkflowType": _indexed("visibility_by_type", "workflow_type", has_order=True),
    "ExecutionStatus": _by_status,
    "StartTime": _indexed("visibility_by_start", "start_time_ns"),
    "ParentWorkflowId": _indexed(
        "visibility_by_parent", "parent_workflow_id", " AND i.parent_workflow_id IS NOT NULL"
    ),
    "RootWorkflowId": _by_root,
}
