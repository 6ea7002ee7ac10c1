"""A raw syntax tree to a checked one: names resolved, operators and values suited to the attribute's type.

Lives here: the rules of the language. This module imports sqlglot: import it when a query is parsed, not
before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from sqlglot import exp

from perdure.core.visibility.attributes import (
    EXECUTION_STATUS,
    NAMESPACE_DIVISION,
    Attribute,
    AttributeType,
    is_groupable,
    resolve,
)
from perdure.core.visibility.grammar import malformed
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
    OrderBy,
    Query,
    Scalar,
    StartsWith,
)
from perdure.core.visibility.text import text_tokens
from perdure.core.visibility.values import (
    INT64_MAX,
    INT64_MIN,
    Literal,
    invalid,
    invalid_expression,
    not_supported,
    parse_number,
    shorten,
    typed_value,
)

_COMPARISONS: Final[Mapping[type[exp.Expr], Operator]] = {
    exp.EQ: Operator.EQUAL,
    exp.NEQ: Operator.NOT_EQUAL,
    exp.LT: Operator.LESS,
    exp.LTE: Operator.LESS_OR_EQUAL,
    exp.GT: Operator.GREATER,
    exp.GTE: Operator.GREATER_OR_EQUAL,
}

_LABELS: Final[Mapping[type[exp.Expr], str]] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.In: "IN",
    exp.StartsWith: "STARTS_WITH",
    exp.Like: "LIKE",
    exp.RegexpLike: "REGEXP",
    exp.NullSafeEQ: "<=>",
}
"""What users call the operators that put one attribute on the left of one value or list."""

_ORDERED: Final = frozenset({"=", "!=", "<", "<=", ">", ">=", "IN"})
_OPERATORS: Final[Mapping[AttributeType, frozenset[str]]] = {
    AttributeType.KEYWORD: _ORDERED | {"STARTS_WITH"},
    AttributeType.INT: _ORDERED,
    AttributeType.DOUBLE: _ORDERED,
    AttributeType.DATETIME: _ORDERED,
    AttributeType.BOOL: _ORDERED,
    AttributeType.KEYWORD_LIST: frozenset({"=", "!=", "IN"}),
    AttributeType.TEXT: frozenset({"=", "!="}),
}
_RANGES: Final = frozenset(
    {AttributeType.KEYWORD, AttributeType.INT, AttributeType.DOUBLE, AttributeType.DATETIME}
)

_SHOWN: Final[Mapping[type[exp.Expr], str]] = {
    exp.Column: "a name",
    exp.Literal: "a value",
    exp.Boolean: "a value",
    exp.Null: "NULL",
    exp.Neg: "a value",
    exp.Paren: "an expression in parentheses",
    exp.Tuple: "a list",
}


class Checker:
    """Checks one query against one namespace's attributes.

    Args:
        attributes: the namespace's own search attributes.
        aliases: other names of built-in attributes.
    """

    def __init__(
        self, attributes: Mapping[str, AttributeType], aliases: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._aliases = aliases
        self._attributes = attributes
        self._mentions_namespace_division = False

    def query(self, select: exp.Select | None, *, allow_order_by: bool) -> Query:
        """Check a whole query.

        Args:
            select: the statement it stands for; None if it says nothing.
            allow_order_by: return an ORDER BY rather than refuse it.

        Raises:
            InvalidArgumentError: the statement is not a valid query.
        """
        where: Node | None = None
        group_by: str | None = None
        order_by: tuple[OrderBy, ...] = ()
        for clause in _clauses(select):
            match clause:
                case exp.Where():
                    where = self._condition(clause.this)
                case exp.Group():
                    group_by = self._group_by(clause)
                case exp.Order():
                    order_by = tuple(self._order_by(term) for term in clause.expressions)
                    if not allow_order_by:
                        raise not_supported("'ORDER BY' clause")
                case _:
                    raise malformed("only a condition, GROUP BY and ORDER BY can be given")
        return Query(where, group_by, order_by, self._mentions_namespace_division)

    def _group_by(self, clause: exp.Group) -> str:
        terms = clause.expressions
        if len(terms) != 1 or any(value for name, value in clause.args.items() if name != "expressions"):
            raise not_supported("'GROUP BY' clause supports only a single field")
        attribute, name = self._attribute(terms[0])
        if not is_groupable(attribute.name):
            raise not_supported(f"'GROUP BY' clause is not supported for search attribute {name}")
        return attribute.name

    def _order_by(self, term: exp.Expr) -> OrderBy:
        descending = isinstance(term, exp.Ordered) and bool(term.args.get("desc"))
        attribute, _ = self._attribute(term.this if isinstance(term, exp.Ordered) else term)
        if attribute.type is AttributeType.TEXT:
            raise not_supported(f"unable to sort by search attribute type {attribute.type.label}")
        return OrderBy(attribute, descending)

    def _condition(self, expression: exp.Expr) -> Node:
        match expression:
            case exp.Paren():
                return self._condition(expression.this)
            case exp.Not():
                return self._negated(expression.this)
            case exp.And():
                return And(tuple(self._operands(expression, exp.And, And)))
            case exp.Or():
                return Or(tuple(self._operands(expression, exp.Or, Or)))
            case exp.Between():
                return self._between(expression)
            case exp.Is():
                return self._is(expression)
            case exp.Column():
                raise invalid_expression("incomplete expression")
        if type(expression) in _LABELS:
            return self._predicate(expression, negated=bool(expression.args.get("negate")))
        raise not_supported(f"{_shown(expression)} is not a condition")

    def _operands(
        self, expression: exp.Expr, kind: type[exp.Expr], made: type[And] | type[Or]
    ) -> Iterable[Node]:
        """Check the operands of a chain of AND or OR, which can be long, from left to right."""
        chain: list[exp.Expr] = []
        while isinstance(expression, kind):
            chain.append(expression.expression)
            expression = expression.this
        for operand in (expression, *reversed(chain)):
            node = self._condition(operand)
            if isinstance(node, made):
                yield from node.children
            else:
                yield node

    def _negated(self, expression: exp.Expr) -> Node:
        # `a NOT IN (...)` comes as NOT of `a IN (...)`: tell the checks which operator was written.
        if type(expression) in _LABELS and type(expression) not in _COMPARISONS:
            return self._predicate(expression, negated=True)
        return _negation(self._condition(expression))

    def _predicate(self, expression: exp.Expr, *, negated: bool) -> Node:
        """Check `attribute operator value` or `attribute IN (values)`.

        Args:
            expression: the operator and its operands.
            negated: the operator is written with a NOT.
        """
        attribute, name = self._attribute(expression.this)
        values = [typed_value(attribute, name, _literal(operand)) for operand in _operands_of(expression)]
        label = _LABELS[type(expression)]
        if label not in _OPERATORS[attribute.type]:
            raise not_supported(
                f"operator '{'NOT ' * negated}{label}' not supported for {attribute.type.label} type "
                f"search attribute '{name}'"
            )
        if isinstance(expression, exp.In):
            node = _in_list(attribute, values)
        elif isinstance(expression, exp.StartsWith):
            node = _starts_with(attribute, values[0])
        else:
            node = _comparison(attribute, name, _COMPARISONS[type(expression)], values[0])
        return _negation(node) if negated else node

    def _between(self, expression: exp.Between) -> Node:
        attribute, name = self._attribute(expression.this)
        if attribute.type not in _RANGES:
            raise invalid_expression(
                f"cannot do range condition on search attribute '{name}' of type {attribute.type.label}"
            )
        low, high = (typed_value(attribute, name, _literal(expression.args[end])) for end in ("low", "high"))
        if attribute.type is AttributeType.INT:
            # typed_value gives numbers here; float() would lose digits of a 64-bit integer.
            return _integers_between(attribute, _number(low), _number(high))
        return Between(attribute, low, high)

    def _is(self, expression: exp.Is) -> Node:
        attribute, _ = self._attribute(expression.this)
        if not isinstance(expression.expression, exp.Null):
            raise invalid_expression("'IS' operator can only be used as 'IS NULL' or 'IS NOT NULL'")
        node = IsNull(attribute)
        return _negation(node) if expression.args.get("negate") else node

    def _attribute(self, expression: exp.Expr) -> tuple[Attribute, str]:
        """Resolve the name on the left of an operator. Returns the attribute and what the query calls it."""
        if not isinstance(expression, exp.Column):
            raise invalid_expression(f"must be a column name but was {_shown(expression)}")
        name = _name(expression)
        attribute = resolve(name, self._attributes, self._aliases)
        if attribute is None:
            raise invalid(f"invalid search attribute: {shorten(name)}")
        if attribute.name == NAMESPACE_DIVISION:
            self._mentions_namespace_division = True
        return attribute, name


def _clauses(select: exp.Select | None) -> Iterable[Any]:
    """The clauses of a statement beside the fixed `SELECT * FROM t`."""
    if select is None:
        return ()
    fixed = {"expressions", "from", "from_", "kind", "hint"}
    return [value for name, value in select.args.items() if value and name not in fixed]


def _shown(expression: exp.Expr) -> str:
    return _SHOWN.get(type(expression), "an expression")


def _name(column: exp.Column) -> str:
    return ".".join(part.name for part in column.parts)


def _operands_of(predicate: exp.Expr) -> Sequence[exp.Expr]:
    """What stands on the right of an operator: the elements of IN's list, or the one value of any other."""
    if not isinstance(predicate, exp.In):
        if isinstance(predicate.expression, exp.Tuple):
            raise invalid_expression(
                f"right-hand side of '{_LABELS[type(predicate)]}' must be one value, not a list"
            )
        return (predicate.expression,)
    extras = [name for name, value in predicate.args.items() if value and name not in ("this", "expressions")]
    if extras or not predicate.expressions:
        raise malformed("syntax error: IN needs a list of values in parentheses")
    return predicate.expressions


def _literal(expression: exp.Expr) -> Literal:
    """Read a value from the right of an operator."""
    match expression:
        case exp.Literal() if expression.is_string:
            text = str(expression.this)
            if "\x00" in text:
                raise invalid_expression("a string has a character that is not text")
            return text
        case exp.Literal():
            return parse_number(str(expression.this))
        case exp.Neg(this=exp.Literal(is_string=False) as number):
            return parse_number(str(number.this), negative=True)
        case exp.Boolean():
            return bool(expression.this)
        case exp.Column():
            raise not_supported(
                "column name on the right side of comparison expression "
                f'(did you forget to quote "{shorten(_name(expression))}"?)'
            )
        case _:
            raise invalid_expression(f"must be a value but was {_shown(expression)}")


def _negation(node: Node) -> Node:
    return node.child if isinstance(node, Not) else Not(node)


def _comparison(attribute: Attribute, name: str, operator: Operator, value: Scalar) -> Node:
    if attribute.type is AttributeType.INT and isinstance(value, float):
        return _compare_integer(attribute, operator, value)
    if attribute.type not in (AttributeType.TEXT, AttributeType.KEYWORD_LIST):
        return Comparison(attribute, operator, value)
    text = str(value)
    if attribute.type is AttributeType.TEXT and not text.split():
        raise invalid_expression(f"no tokens found filtering on Text type search attribute {name}")
    members = text_tokens(text) if attribute.type is AttributeType.TEXT else (text,)
    node = ContainsAny(attribute, members)
    return Not(node) if operator is Operator.NOT_EQUAL else node


def _starts_with(attribute: Attribute, prefix: Scalar) -> Node:
    # ExecutionStatus is a Keyword to clients, but a number has no beginning.
    if attribute.name == EXECUTION_STATUS or not isinstance(prefix, str):
        raise invalid_expression("right-hand side of 'STARTS_WITH' must be a literal string")
    return StartsWith(attribute, prefix)


def _in_list(attribute: Attribute, values: Sequence[Scalar]) -> Node:
    if attribute.type is AttributeType.KEYWORD_LIST:
        return ContainsAny(attribute, tuple(dict.fromkeys(str(value) for value in values)))
    if attribute.type is AttributeType.INT:
        values = [int(value) for value in values if isinstance(value, int) or _is_int64(float(value))]
        if not values:
            return _no_integer(attribute)
    return InList(attribute, tuple(dict.fromkeys(values)))


def _compare_integer(attribute: Attribute, operator: Operator, value: float) -> Node:
    """Say what a comparison with a fraction, or with a number beyond 64 bits, means for integers."""
    match operator:
        case Operator.EQUAL:
            return _integers_between(attribute, value, value)
        case Operator.NOT_EQUAL:
            return _negation(_integers_between(attribute, value, value))
        case Operator.LESS:
            return _integers_between(attribute, INT64_MIN, math.ceil(value) - 1)
        case Operator.LESS_OR_EQUAL:
            return _integers_between(attribute, INT64_MIN, value)
        case Operator.GREATER:
            return _integers_between(attribute, math.floor(value) + 1, INT64_MAX)
        case Operator.GREATER_OR_EQUAL:
            return _integers_between(attribute, value, INT64_MAX)


def _integers_between(attribute: Attribute, low: float, high: float) -> Node:
    """All integers from `low` to `high`, cut to 64 bits."""
    first = max(math.ceil(low), INT64_MIN)
    last = min(math.floor(high), INT64_MAX)
    return Between(attribute, first, last) if first <= last else _no_integer(attribute)


def _no_integer(attribute: Attribute) -> Node:
    """A condition that is false for every value, and unknown without one."""
    return Between(attribute, 1, 0)


def _number(value: Scalar) -> int | float:
    return value if isinstance(value, int | float) else float(value)


def _is_int64(value: float) -> bool:
    return value.is_integer() and INT64_MIN <= value <= INT64_MAX
