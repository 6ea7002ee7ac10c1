"""The list-filter language: text to a checked tree, the tree to an answer for a record or to SQL.

    text --parse_query--> Query(where, group_by, ...) --matches--> bool        (in memory)
                                                      --to_sql---> condition   (databases)

May live here: the language. May not: stores, namespaces, the meaning of pages and tokens. The parser's
library is imported when the first query is parsed, so importing this package costs little.
"""

from __future__ import annotations

from perdure.core.visibility.attributes import (
    ACTIVITY_ALIASES,
    CLOSED_ONLY_ATTRIBUTES,
    PREDEFINED_ATTRIBUTES,
    SYSTEM_ATTRIBUTES,
    Attribute,
    AttributeType,
    is_definable,
)
from perdure.core.visibility.cache import QueryCache
from perdure.core.visibility.evaluate import matches, value_of
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
    StartsWith,
)
from perdure.core.visibility.parse import MAX_NESTING, MAX_QUERY_CHARS, check_order, parse_query
from perdure.core.visibility.sql import numbered_dollars, question_marks, to_sql
from perdure.core.visibility.text import text_tokens

__all__ = [
    "ACTIVITY_ALIASES",
    "CLOSED_ONLY_ATTRIBUTES",
    "MAX_NESTING",
    "MAX_QUERY_CHARS",
    "PREDEFINED_ATTRIBUTES",
    "SYSTEM_ATTRIBUTES",
    "And",
    "Attribute",
    "AttributeType",
    "Between",
    "Comparison",
    "ContainsAny",
    "InList",
    "IsNull",
    "Node",
    "Not",
    "Operator",
    "Or",
    "OrderBy",
    "Query",
    "QueryCache",
    "StartsWith",
    "check_order",
    "is_definable",
    "matches",
    "numbered_dollars",
    "parse_query",
    "question_marks",
    "text_tokens",
    "to_sql",
    "value_of",
]
