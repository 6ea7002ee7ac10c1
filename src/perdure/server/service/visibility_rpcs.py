"""RPCs that list and count workflow executions, by query or by the older filters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from perdure.api.common.v1 import Payload
from perdure.api.enums.v1 import WorkflowExecutionStatus
from perdure.api.filter.v1 import StartTimeFilter
from perdure.api.protobuf import Timestamp
from perdure.api.workflow.v1 import WorkflowExecutionInfo
from perdure.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    CountWorkflowExecutionsResponse,
    ListArchivedWorkflowExecutionsRequest,
    ListArchivedWorkflowExecutionsResponse,
    ListClosedWorkflowExecutionsRequest,
    ListClosedWorkflowExecutionsResponse,
    ListOpenWorkflowExecutionsRequest,
    ListOpenWorkflowExecutionsResponse,
    ListWorkflowExecutionsRequest,
    ListWorkflowExecutionsResponse,
    ScanWorkflowExecutionsRequest,
    ScanWorkflowExecutionsResponse,
)
from perdure.core.errors import InvalidArgumentError
from perdure.core.run.protos import timestamp_ns
from perdure.core.visibility import (
    And,
    Attribute,
    AttributeType,
    Comparison,
    InList,
    Node,
    Not,
    Operator,
    Query,
    QueryCache,
    check_order,
)
from perdure.core.visibility.attributes import EXECUTION_STATUS
from perdure.core.visibility.values import EXECUTION_STATUSES, INT64_MAX, INT64_MIN
from perdure.server.config import ServerConfig
from perdure.server.namespaces import Namespace, Namespaces
from perdure.server.service.call import Call
from perdure.server.service.execution_info import execution_info
from perdure.store.protocol import ListPage, Store

_RUNNING = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_RUNNING")
_OPEN_STATUSES = (_RUNNING, WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_PAUSED"))
_STATUS_NAMES = {number: name for name, number in EXECUTION_STATUSES.items()}
_STATUS = Attribute(EXECUTION_STATUS, AttributeType.KEYWORD)
_START_TIME = Attribute("StartTime", AttributeType.DATETIME)
_CLOSE_TIME = Attribute("CloseTime", AttributeType.DATETIME)
_WORKFLOW_ID = Attribute("WorkflowId", AttributeType.KEYWORD)
_WORKFLOW_TYPE = Attribute("WorkflowType", AttributeType.KEYWORD)


QUERY_CACHE_SIZE = 256


class VisibilityRpcs:
    """Handlers of the RPCs that list and count workflow executions.

    Args:
        store: where the lists are.
        namespaces: for names and search attributes.
        config: the page size.
    """

    def __init__(self, store: Store, namespaces: Namespaces, config: ServerConfig) -> None:
        self._store = store
        self._namespaces = namespaces
        self._page_size = config.list_page_size
        self._queries = QueryCache(QUERY_CACHE_SIZE)
        self._list_queries = QueryCache(QUERY_CACHE_SIZE, allow_order_by=True)

    async def list_workflow_executions(
        self, request: ListWorkflowExecutionsRequest, call: Call
    ) -> ListWorkflowExecutionsResponse:
        """ListWorkflowExecutions: open runs first, then the last closed."""
        executions, next_page_token = await self._listed(request)
        return ListWorkflowExecutionsResponse(executions=executions, next_page_token=next_page_token)

    async def scan_workflow_executions(
        self, request: ScanWorkflowExecutionsRequest, call: Call
    ) -> ScanWorkflowExecutionsResponse:
        """ScanWorkflowExecutions, deprecated: the same as a list."""
        executions, next_page_token = await self._listed(request)
        return ScanWorkflowExecutionsResponse(executions=executions, next_page_token=next_page_token)

    async def count_workflow_executions(
        self, request: CountWorkflowExecutionsRequest, call: Call
    ) -> CountWorkflowExecutionsResponse:
        """CountWorkflowExecutions: of all matching runs, or by execution status with GROUP BY."""
        namespace = self._namespaces.get(request.namespace)
        query = self._query(request.query, namespace)
        counts = await self._store.count_runs(namespace.namespace_id, query.filter, query.group_by)
        response = CountWorkflowExecutionsResponse()
        show_counts(query, counts, response)
        return response

    async def list_open_workflow_executions(
        self, request: ListOpenWorkflowExecutionsRequest, call: Call
    ) -> ListOpenWorkflowExecutionsResponse:
        """ListOpenWorkflowExecutions, the older list of running workflows."""
        namespace = self._namespaces.get(request.namespace)
        conditions: list[Node] = [InList(_STATUS, _OPEN_STATUSES)]
        conditions += _time_conditions(_START_TIME, request.start_time_filter)
        if request.HasField("execution_filter"):
            conditions.append(_equal(_WORKFLOW_ID, request.execution_filter.workflow_id))
        elif request.HasField("type_filter"):
            conditions.append(_equal(_WORKFLOW_TYPE, request.type_filter.name))
        page = await self._page(
            namespace, _all(conditions), request.maximum_page_size, request.next_page_token
        )
        return ListOpenWorkflowExecutionsResponse(
            executions=_infos(page, namespace), next_page_token=page.next_cursor or b""
        )

    async def list_closed_workflow_executions(
        self, request: ListClosedWorkflowExecutionsRequest, call: Call
    ) -> ListClosedWorkflowExecutionsResponse:
        """ListClosedWorkflowExecutions, the older list of closed workflows. Its time filter means the close time."""
        namespace = self._namespaces.get(request.namespace)
        conditions: list[Node] = [Not(InList(_STATUS, _OPEN_STATUSES))]
        conditions += _time_conditions(_CLOSE_TIME, request.start_time_filter)
        if request.HasField("execution_filter"):
            conditions.append(_equal(_WORKFLOW_ID, request.execution_filter.workflow_id))
        elif request.HasField("type_filter"):
            conditions.append(_equal(_WORKFLOW_TYPE, request.type_filter.name))
        elif request.HasField("status_filter"):
            if request.status_filter.status in (0, *_OPEN_STATUSES):
                raise InvalidArgumentError("StatusFilter must be specified and must be not Running.")
            conditions.append(Comparison(_STATUS, Operator.EQUAL, request.status_filter.status))
        page = await self._page(
            namespace, _all(conditions), request.maximum_page_size, request.next_page_token
        )
        return ListClosedWorkflowExecutionsResponse(
            executions=_infos(page, namespace), next_page_token=page.next_cursor or b""
        )

    async def list_archived_workflow_executions(
        self, request: ListArchivedWorkflowExecutionsRequest, call: Call
    ) -> ListArchivedWorkflowExecutionsResponse:
        """ListArchivedWorkflowExecutions: there is no archive, as on a cluster of Temporal's without one."""
        self._namespaces.get(request.namespace)
        raise InvalidArgumentError("Cluster is not configured for visibility archival.")

    def _query(self, text: str, namespace: Namespace) -> Query:
        schema = (namespace.namespace_id, namespace.version)
        return self._queries.parse(schema, text, namespace.search_attributes)

    async def _listed(
        self, request: ListWorkflowExecutionsRequest | ScanWorkflowExecutionsRequest
    ) -> tuple[Sequence[WorkflowExecutionInfo], bytes]:
        namespace = self._namespaces.get(request.namespace)
        schema = (namespace.namespace_id, namespace.version)
        query = self._list_queries.parse(schema, request.query, namespace.search_attributes)
        page = await self._page(namespace, query, request.page_size, request.next_page_token)
        return _infos(page, namespace), page.next_cursor or b""

    async def _page(self, namespace: Namespace, query: Query, size: int, token: bytes) -> ListPage:
        size = size if 0 < size <= self._page_size else self._page_size
        if query.order_by:
            check_order(query.order_by)
            return await self._store.list_runs_ordered(
                namespace.namespace_id, query.filter, query.order_by[0], size, token or None
            )
        return await self._store.list_runs(namespace.namespace_id, query.filter, size, token or None)


def _infos(page: ListPage, namespace: Namespace) -> Sequence[WorkflowExecutionInfo]:
    return [execution_info(row.run, row.record, namespace.search_attributes) for row in page.rows]


def _equal(attribute: Attribute, value: str) -> Node:
    return Comparison(attribute, Operator.EQUAL, value)


def _all(conditions: Sequence[Node]) -> Query:
    return Query(And(tuple(conditions)), None, (), mentions_namespace_division=False)


def _time_conditions(attribute: Attribute, times: StartTimeFilter) -> list[Node]:
    """Conditions for the ends of a time range that are set."""
    earliest, latest = _instant_ns(times.earliest_time), _instant_ns(times.latest_time)
    if earliest and latest and earliest > latest:
        raise InvalidArgumentError("EarliestTime in StartTimeFilter should not be larger than LatestTime.")
    conditions: list[Node] = []
    if earliest:
        conditions.append(Comparison(attribute, Operator.GREATER_OR_EQUAL, earliest))
    if latest:
        conditions.append(Comparison(attribute, Operator.LESS_OR_EQUAL, latest))
    return conditions


def _instant_ns(timestamp: Timestamp) -> int:
    """A time in nanoseconds since the epoch, as near to it as lists can compare; 0 for none."""
    return min(max(timestamp_ns(timestamp), INT64_MIN), INT64_MAX)


def show_counts(query: Query, counts: Sequence[tuple[object, int]], response: Any) -> None:
    """Puts what was counted into the response to a count of executions of any kind."""
    response.count = sum(number for _, number in counts)
    if query.group_by is not None:
        for value, number in counts:
            group = response.groups.add(count=number)
            group.group_values.append(_group_value(query.group_by, value))


def _group_value(attribute: str, value: object) -> Payload:
    """A group of a count, as the API shows it."""
    if attribute == EXECUTION_STATUS and isinstance(value, int):
        value = _STATUS_NAMES.get(value, value)
    payload = Payload(data=json.dumps("" if value is None else value, ensure_ascii=False).encode())
    payload.metadata["encoding"] = b"json/plain"
    payload.metadata["type"] = b"Keyword"
    return payload
