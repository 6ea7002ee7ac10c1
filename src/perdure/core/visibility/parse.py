"""Text to a checked tree: the entry of the language.

Lives here: what may stand where, which operators suit which types, and the tree that is made of it. May not:
how text is cut and parsed (`grammar.py`), how single values are read (`values.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from perdure.core.visibility.attributes import (
    NAMESPACE_DIVISION,
    SORTABLE_SYSTEM_ATTRIBUTES,
    SYSTEM_ATTRIBUTES,
    AttributeType,
)
from perdure.core.visibility.nodes import OrderBy, Query
from perdure.core.visibility.values import invalid, not_supported

_SORTABLE_TYPES: Final = (
    AttributeType.KEYWORD,
    AttributeType.INT,
    AttributeType.DOUBLE,
    AttributeType.DATETIME,
)
MAX_QUERY_CHARS: Final = 10_000
MAX_NESTING: Final = 20
"""Parentheses and NOTs that may be open at once. The parser spends about 30 Python frames on each."""


def parse_query(
    text: str,
    attributes: Mapping[str, AttributeType],
    *,
    aliases: Mapping[str, str] = MappingProxyType({}),
    allow_order_by: bool = False,
) -> Query:
    """Parse and check a query: `[condition] [GROUP BY attribute] [ORDER BY attribute [DESC], ...]`.

    The first call imports the parser's library, which takes about 0.1 s.

    Args:
        text: what the user wrote; at most 10,000 characters.
        attributes: the namespace's own search attributes. The built-in ones are known.
        aliases: other names of built-in attributes.
        allow_order_by: return an ORDER BY rather than refuse it, as every store does whose lists have a fixed
            order.

    Returns:
        The checked query.

    Raises:
        InvalidArgumentError: the text is not a valid query; the message says what is wrong with it.
    """
    if len(text) > MAX_QUERY_CHARS:
        raise invalid(f"longer than {MAX_QUERY_CHARS} characters")
    if "\x00" in text or not _is_storable(text):
        raise invalid("it has a character that is not text")
    if not text.strip():
        return Query(where=None, group_by=None, order_by=(), mentions_namespace_division=False)
    # Here and not above, because it imports sqlglot.
    from perdure.core.visibility.check import Checker
    from perdure.core.visibility.grammar import parse_select

    return Checker(attributes, aliases).query(parse_select(text, MAX_NESTING), allow_order_by=allow_order_by)


def check_order(order_by: Sequence[OrderBy]) -> None:
    """Refuses an order that lists cannot have at little cost: other than that of one attribute indexed by its value.

    Raises:
        InvalidArgumentError: in the words for stores without any order.
    """
    attribute = order_by[0].attribute
    is_indexed = attribute.name in SORTABLE_SYSTEM_ATTRIBUTES or attribute.name not in SYSTEM_ATTRIBUTES
    is_scalar = attribute.type in _SORTABLE_TYPES and attribute.name != NAMESPACE_DIVISION
    if len(order_by) != 1 or not is_indexed or not is_scalar:
        raise not_supported("'ORDER BY' clause")


def _is_storable(text: str) -> bool:
    """Tell whether no half of a surrogate pair stands in the text: no database takes one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
