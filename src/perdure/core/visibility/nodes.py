"""The checked tree of a list filter: what a query means, with every name resolved and every value typed.

Lives here: frozen data and nothing else. A tree that exists is valid: attributes exist, operators suit their
types, values have the attribute's Python type and fit 64 bits.

Truth has three values, as in SQL: a node about an attribute that a run does not have is neither true nor
false, and so is its negation. `IsNull` and `ContainsAny` are always true or false.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from perdure.core.visibility.attributes import NAMESPACE_DIVISION, Attribute, AttributeType

Scalar: TypeAlias = str | int | float | bool
"""A typed value: datetimes and durations are `int` nanoseconds, ExecutionStatus is its `int` number."""


class Operator(StrEnum):
    """How a value is compared; the text is SQL's."""

    EQUAL = "="
    NOT_EQUAL = "<>"
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="


@dataclass(frozen=True, slots=True)
class Comparison:
    """`attribute operator value`. Strings compare by code point."""

    attribute: Attribute
    operator: Operator
    value: Scalar


@dataclass(frozen=True, slots=True)
class InList:
    """The attribute equals one of `values` (at least one)."""

    attribute: Attribute
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """`low <= attribute <= high`; false for every present value if `low > high`."""

    attribute: Attribute
    low: Scalar
    high: Scalar


@dataclass(frozen=True, slots=True)
class StartsWith:
    """The attribute, a string, begins with `prefix`; case matters."""

    attribute: Attribute
    prefix: str


@dataclass(frozen=True, slots=True)
class ContainsAny:
    """A KeywordList has one of `values` as an element, or a Text has one of `values` as a word.

    False, not unknown, when the attribute is missing. For Text the values are words as `text_tokens` makes
    them, and may be none (false). For KeywordList there is at least one.
    """

    attribute: Attribute
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IsNull:
    """The run does not have the attribute."""

    attribute: Attribute


@dataclass(frozen=True, slots=True)
class And:
    """All of `children` (at least two, none itself an And)."""

    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of `children` (at least two, none itself an Or)."""

    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of `child`; unknown stays unknown."""

    child: Node


Node: TypeAlias = Comparison | InList | Between | StartsWith | ContainsAny | IsNull | And | Or | Not

_NO_DIVISION = IsNull(Attribute(NAMESPACE_DIVISION, AttributeType.KEYWORD))


@dataclass(frozen=True, slots=True)
class OrderBy:
    """One term of an ORDER BY."""

    attribute: Attribute
    descending: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query.

    `where` is what the text says, `filter` what a list must apply: unless the query mentions
    TemporalNamespaceDivision, runs in any division (batch jobs, schedulers) are left out.
    """

    where: Node | None
    group_by: str | None
    """Name of the attribute that a count is grouped by; lists ignore it."""
    order_by: tuple[OrderBy, ...]
    mentions_namespace_division: bool

    @property
    def filter(self) -> Node | None:
        """The condition a list or count must apply; None means every run."""
        if self.mentions_namespace_division:
            return self.where
        if self.where is None:
            return _NO_DIVISION
        own = self.where.children if isinstance(self.where, And) else (self.where,)
        return And((*own, _NO_DIVISION))
