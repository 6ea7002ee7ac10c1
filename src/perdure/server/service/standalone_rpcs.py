"""What the handlers for executions without a workflow have in common: lists and counts, long polls, checks.

An execution's own requests (how it starts, what is shown of it, how it ends) are in the modules of the two kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from perdure.api.common.v1 import SearchAttributes
from perdure.api.sdk.v1 import UserMetadata
from perdure.api.workflowservice.v1 import (
    CountActivityExecutionsResponse,
    CountNexusOperationExecutionsResponse,
)
from perdure.core.errors import InvalidArgumentError
from perdure.core.run import attributes
from perdure.core.run.records import RunKind
from perdure.core.visibility import QueryCache
from perdure.core.visibility.attributes import AttributeType
from perdure.core.visibility.nodes import Query
from perdure.server.engine.engine import Engine
from perdure.server.namespaces import Namespace
from perdure.server.service import checks
from perdure.server.service.call import Call
from perdure.server.service.visibility_rpcs import QUERY_CACHE_SIZE, show_counts
from perdure.store.protocol import CurrentRun, ListPage

_METADATA_BYTES: Mapping[str, int] = {"summary": 400, "details": 20_000}
_POLL_MARGIN_S = 1.0
"""An empty answer is sent so long before the caller stops waiting."""

Counted = CountActivityExecutionsResponse | CountNexusOperationExecutionsResponse


class Asked(Protocol):
    """A request for a list or a count."""

    @property
    def namespace(self) -> str:
        """Of which namespace."""

    @property
    def query(self) -> str:
        """The filter."""


class AskedPage(Asked, Protocol):
    """A request for a page of a list."""

    @property
    def page_size(self) -> int:
        """Rows; 0 for as many as a page may have."""

    @property
    def next_page_token(self) -> bytes:
        """Where the page begins."""


class StandaloneRpcs:
    """Handlers for one kind of executions.

    Args:
        engine: whose.
        kind: which.
        aliases: other names of attributes in filters.
        known: attributes that filters know beside those of the namespace.
        long_poll_s: how long a long poll waits at most.
        page_size: rows of a page of a list at most.
    """

    def __init__(
        self,
        engine: Engine,
        kind: RunKind,
        aliases: Mapping[str, str],
        known: Mapping[str, AttributeType],
        long_poll_s: float,
        page_size: int,
    ) -> None:
        self._engine = engine
        self._limits = engine.limits.run
        self._kind = kind
        self._known = known
        self._long_poll_s = long_poll_s
        self._page_size = page_size
        self._queries = QueryCache(QUERY_CACHE_SIZE, aliases)

    def _wait_s(self, call: Call) -> float:
        """How long a long poll waits so that its empty answer still reaches the caller."""
        if call.deadline_s is None:
            return self._long_poll_s
        return max(min(self._long_poll_s, call.deadline_s - _POLL_MARGIN_S), 0.0)

    async def _current(self, namespace: Namespace, execution_id: str) -> CurrentRun | None:
        """The newest execution of an id."""
        found = self._engine.store.current_run(namespace.namespace_id, execution_id, self._kind)
        return await self._engine.reading(found)

    async def _page(self, request: AskedPage, namespace: Namespace) -> ListPage:
        """A page of a list: open ones first, then the last closed."""
        size = request.page_size if 0 < request.page_size <= self._page_size else self._page_size
        where = self._query(request, namespace).where
        token = request.next_page_token or None
        return await self._engine.reading(
            self._engine.store.list_runs(namespace.namespace_id, where, size, token, self._kind)
        )

    async def _count(self, request: Asked, response: Counted) -> None:
        """Counts all that match, or by status with GROUP BY."""
        namespace = self._engine.namespaces.get(request.namespace)
        query = self._query(request, namespace)
        counts = await self._engine.reading(
            self._engine.store.count_runs(namespace.namespace_id, query.where, query.group_by, self._kind)
        )
        show_counts(query, counts, response)

    def _query(self, request: Asked, namespace: Namespace) -> Query:
        schema = (namespace.namespace_id, namespace.version)
        return self._queries.parse(schema, request.query, {**namespace.search_attributes, **self._known})

    def _check_metadata(self, metadata: UserMetadata) -> None:
        for name, limit in _METADATA_BYTES.items():
            length = getattr(metadata, name).ByteSize()
            if length > limit:
                raise InvalidArgumentError(
                    f"user_metadata.{name} exceeds size limit. Length={length} Limit={limit}"
                )

    def _check_attributes(self, values: SearchAttributes, namespace: Namespace) -> None:
        attributes.validate(values, namespace.search_attributes, namespace.name, self._limits)
        attributes.validate_size(values, self._limits)


def check_run_id(run_id: str, message: str) -> None:
    """Raises InvalidArgumentError with this message if a run id is given and is none."""
    if run_id and not checks.is_uuid(run_id):
        raise InvalidArgumentError(message)
