"""A filter's answer for one record, computed in memory.

Lives here: the reference meaning of the tree. `sql.py` must agree with it; a property test compares the two.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from perdure.core.visibility.attributes import EXECUTION_STATUS, Attribute, AttributeType
from perdure.core.visibility.nodes import (
    And,
    Between,
    Comparison,
    ContainsAny,
    InList,
    IsNull,
    Node,
    Not,
    Operator,
    Or,
    StartsWith,
)
from perdure.core.visibility.text import text_tokens

Record: TypeAlias = Mapping[str, object]
"""Attribute name to typed value (see `AttributeType`); a missing attribute is absent or None."""

Truth: TypeAlias = bool | None
"""True, false, or None for unknown."""

_COMPARE: Final[Mapping[Operator, Callable[[Any, Any], bool]]] = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.LESS_OR_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_OR_EQUAL: operator.ge,
}

_PYTHON_TYPES: Final[Mapping[AttributeType, tuple[type, ...]]] = {
    AttributeType.TEXT: (str,),
    AttributeType.KEYWORD: (str,),
    AttributeType.INT: (int,),
    AttributeType.DOUBLE: (float, int),
    AttributeType.BOOL: (bool,),
    AttributeType.DATETIME: (int,),
    AttributeType.KEYWORD_LIST: (list, tuple),
}


def matches(node: Node | None, record: Record) -> bool:
    """Tell whether a record passes a filter.

    Args:
        node: the filter; None passes everything.
        record: attribute names to typed values.

    Returns:
        True if the filter is true; false if it is false or unknown.
    """
    return node is None or truth(node, record) is True


def truth(node: Node, record: Record) -> Truth:
    """Compute a filter's three-valued answer for a record: true, false, or None for unknown."""
    return _EVALUATORS[type(node)](node, record)


def value_of(attribute: Attribute, record: Record) -> Any:
    """The record's value; None if it is missing or of another type, as after a redefinition."""
    value = record.get(attribute.name)
    expected = (int,) if attribute.name == EXECUTION_STATUS else _PYTHON_TYPES[attribute.type]
    return value if isinstance(value, expected) else None


def _comparison(node: Comparison, record: Record) -> Truth:
    value = value_of(node.attribute, record)
    return None if value is None else _COMPARE[node.operator](value, node.value)


def _in_list(node: InList, record: Record) -> Truth:
    value = value_of(node.attribute, record)
    return None if value is None else value in node.values


def _between(node: Between, record: Record) -> Truth:
    value = value_of(node.attribute, record)
    return None if value is None else bool(node.low <= value <= node.high)


def _starts_with(node: StartsWith, record: Record) -> Truth:
    value = value_of(node.attribute, record)
    return None if value is None else bool(value.startswith(node.prefix))


def _contains_any(node: ContainsAny, record: Record) -> Truth:
    value = value_of(node.attribute, record)
    if value is None:
        return False
    members: Sequence[str] = text_tokens(value) if node.attribute.type is AttributeType.TEXT else value
    return not set(node.values).isdisjoint(members)


def _is_null(node: IsNull, record: Record) -> Truth:
    return value_of(node.attribute, record) is None


def _and(node: And, record: Record) -> Truth:
    answer: Truth = True
    for child in node.children:
        child_truth = truth(child, record)
        if child_truth is False:
            return False
        if child_truth is None:
            answer = None
    return answer


def _or(node: Or, record: Record) -> Truth:
    answer: Truth = False
    for child in node.children:
        child_truth = truth(child, record)
        if child_truth is True:
            return True
        if child_truth is None:
            answer = None
    return answer


def _not(node: Not, record: Record) -> Truth:
    child_truth = truth(node.child, record)
    return None if child_truth is None else not child_truth


_EVALUATORS: Final[Mapping[type, Callable[[Any, Record], Truth]]] = {
    Comparison: _comparison,
    InList: _in_list,
    Between: _between,
    StartsWith: _starts_with,
    ContainsAny: _contains_any,
    IsNull: _is_null,
    And: _and,
    Or: _or,
    Not: _not,
}
