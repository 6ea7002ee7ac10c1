"""A filter as a parameterised SQL condition, for any database.

Lives here: the translation, in plain ANSI SQL. What only a database knows (where an attribute is kept, how
membership is asked, how parameters are written) comes from the caller. Values never appear in the text.

What the database must give: NULL for a missing attribute; strings that compare by code point (SQLite's
BINARY, PostgreSQL's "C" collation); booleans that compare with bound Python booleans; 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from perdure.core.invariant import invariant
from perdure.core.visibility.nodes import (
    And,
    Between,
    Comparison,
    ContainsAny,
    InList,
    IsNull,
    Node,
    Not,
    Or,
    StartsWith,
)

ColumnOf: TypeAlias = Callable[[str], str]
"""Attribute name to the SQL expression of its value. Names come from the schema, never straight from a
query's text,
but a custom name can hold any character: quote it, never paste it."""

Bind: TypeAlias = Callable[[object], str]
"""Registers a parameter and returns its placeholder. Call it in the order in which the placeholders stand."""


class Membership(Protocol):
    """Writes the condition "the attribute has one of these members".

    It must be false, not NULL, when the attribute is missing.
    """

    def __call__(self, attribute: str, values: Sequence[str], bind: Bind, /) -> str:
        """Return the SQL condition.

        Args:
            attribute: name of a KeywordList or Text attribute. For Text the members are the words of
                `text_tokens`.
            values: at least one.
            bind: registers a parameter.
        """


Placeholder: TypeAlias = Callable[[int], str]
"""A parameter's 1-based number to its placeholder."""


def question_marks(_number: int, /) -> str:
    """Placeholders of SQLite and ODBC: `?`."""
    return "?"


def numbered_dollars(number: int, /) -> str:
    """Placeholders of PostgreSQL: `$1`, `$2`, ..."""
    return f"${number}"


def to_sql(
    node: Node,
    column_of: ColumnOf,
    *,
    membership: Membership | None = None,
    placeholder: Placeholder = question_marks,
    first_parameter: int = 1,
) -> tuple[str, list[object]]:
    """Translate a filter.

    Args:
        node: the filter.
        column_of: where an attribute's value is.
        membership: how members of KeywordList and Text attributes are asked for; needed only if the filter
            does.
        placeholder: how parameters are written.
        first_parameter: number of the first parameter, when the statement has others before.

    Returns:
        A condition that can stand anywhere in a WHERE (it is an operand of AND as it is), and its parameters
        in order.
    """
    translation = _Translation(column_of, membership, placeholder, first_parameter)
    return translation.write(node), translation.parameters


def _no_membership(attribute: str, _values: Sequence[str], _bind: Bind, /) -> str:
    invariant(False, "a filter on members was translated without a membership", attribute=attribute)
    return ""


class _Translation:
    """One run of `to_sql`: collects parameters while the text is written from left to right."""

    def __init__(
        self,
        column_of: ColumnOf,
        membership: Membership | None,
        placeholder: Placeholder,
        first_parameter: int,
    ) -> None:
        self.column_of = column_of
        self.membership = membership or _no_membership
        self.placeholder = placeholder
        self.first_parameter = first_parameter
        self.parameters: list[object] = []

    def bind(self, value: object) -> str:
        self.parameters.append(value)
        return self.placeholder(self.first_parameter + len(self.parameters) - 1)

    def write(self, node: Node) -> str:
        return _WRITERS[type(node)](self, node)

    def comparison(self, node: Comparison) -> str:
        return f"{self.column_of(node.attribute.name)} {node.operator.value} {self.bind(node.value)}"

    def in_list(self, node: InList) -> str:
        column = self.column_of(node.attribute.name)
        return f"{column} IN ({', '.join(self.bind(value) for value in node.values)})"

    def between(self, node: Between) -> str:
        # In parentheses, so that its AND is never read with another one.
        column = self.column_of(node.attribute.name)
        return f"({column} BETWEEN {self.bind(node.low)} AND {self.bind(node.high)})"

    def starts_with(self, node: StartsWith) -> str:
        # A range rather than LIKE: an index can answer it, case matters everywhere, and nothing needs
        # escaping.
        column = self.column_of(node.attribute.name)
        end = prefix_end(node.prefix)
        if end is None:
            return f"{column} >= {self.bind(node.prefix)}"
        return f"({column} >= {self.bind(node.prefix)} AND {column} < {self.bind(end)})"

    def contains_any(self, node: ContainsAny) -> str:
        if not node.values:
            return "1 = 0"
        return self.membership(node.attribute.name, node.values, self.bind)

    def is_null(self, node: IsNull) -> str:
        return f"{self.column_of(node.attribute.name)} IS NULL"

    def negation(self, node: Not) -> str:
        return f"NOT ({self.write(node.child)})"

    def conjunction(self, node: And) -> str:
        return self._join(node.children, " AND ")

    def disjunction(self, node: Or) -> str:
        return self._join(node.children, " OR ")

    def _join(self, children: Sequence[Node], word: str) -> str:
        """Write `children` as a balanced tree: SQLite refuses expressions that are deeper than 1000."""
        if len(children) == 1:
            return self.write(children[0])
        middle = len(children) // 2
        return f"({self._join(children[:middle], word)}{word}{self._join(children[middle:], word)})"


def prefix_end(prefix: str) -> str | None:
    """Find the least string, by code point, that is greater than every string that begins with `prefix`.

    Returns:
        That string, or None if there is none.
    """
    for index in range(len(prefix) - 1, -1, -1):
        code_point = ord(prefix[index])
        if code_point < _LAST_CODE_POINT:
            following = code_point + 1
            # Surrogates are not characters: databases cannot store them.
            if _FIRST_SURROGATE <= following <= _LAST_SURROGATE:
                following = _LAST_SURROGATE + 1
            return prefix[:index] + chr(following)
    return None


_LAST_CODE_POINT: Final = 0x10FFFF
_FIRST_SURROGATE: Final = 0xD800
_LAST_SURROGATE: Final = 0xDFFF

_WRITERS: Final[Mapping[type, Callable[[_Translation, Any], str]]] = {
    Comparison: _Translation.comparison,
    InList: _Translation.in_list,
    Between: _Translation.between,
    StartsWith: _Translation.starts_with,
    ContainsAny: _Translation.contains_any,
    IsNull: _Translation.is_null,
    And: _Translation.conjunction,
    Or: _Translation.disjunction,
    Not: _Translation.negation,
}
