"""A bounded memory of parsed queries, for callers that see the same texts again and again.

Lives here: the memory. Who holds one, and how long, is the caller's business; nothing is shared behind his back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from types import MappingProxyType

from perdure.core.invariant import invariant
from perdure.core.visibility.attributes import AttributeType
from perdure.core.visibility.nodes import Query
from perdure.core.visibility.parse import parse_query


class QueryCache:
    """Parses queries and keeps the ones used last. Refused queries are not kept. Not for several threads at once.

    Args:
        capacity: how many queries to keep; each text has at most `MAX_QUERY_CHARS` characters.
        aliases: other names of built-in attributes, for lists of another kind of run than a workflow's.
        allow_order_by: whether queries may have an order.
    """

    def __init__(
        self,
        capacity: int,
        aliases: Mapping[str, str] = MappingProxyType({}),
        *,
        allow_order_by: bool = False,
    ) -> None:
        self._allow_order_by = allow_order_by
        invariant(capacity > 0, "a query cache holds at least one query", capacity=capacity)
        self._capacity = capacity
        self._aliases = aliases
        self._queries: OrderedDict[tuple[Hashable, str], Query] = OrderedDict()

    def __len__(self) -> int:
        """Return how many queries are kept."""
        return len(self._queries)

    def parse(self, schema: Hashable, text: str, attributes: Mapping[str, AttributeType]) -> Query:
        """Parse a query, or return it as it was parsed before.

        Args:
            schema: identifies `attributes`: it must be another one whenever they differ, such as a namespace's id and
                the version of its search attributes.
            text: what the user wrote.
            attributes: the namespace's own search attributes.

        Raises:
            InvalidArgumentError: the text is not a valid query.
        """
        key = (schema, text)
        query = self._queries.get(key)
        if query is None:
            query = parse_query(text, attributes, aliases=self._aliases, allow_order_by=self._allow_order_by)
            self._queries[key] = query
            if len(self._queries) > self._capacity:
                self._queries.popitem(last=False)
        else:
            self._queries.move_to_end(key)
        return query
