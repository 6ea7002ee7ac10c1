"""Lists and counts over RPCs: which runs, in which order, how each is shown, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from perdure.api.common.v1 import Memo, Payload, SearchAttributes
from perdure.api.filter.v1 import (
    StartTimeFilter,
    StatusFilter,
    WorkflowExecutionFilter,
    WorkflowTypeFilter,
)
from perdure.api.protobuf import Timestamp
from perdure.api.workflow.v1 import WorkflowExecutionInfo
from perdure.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    ListArchivedWorkflowExecutionsRequest,
    ListClosedWorkflowExecutionsRequest,
    ListOpenWorkflowExecutionsRequest,
    ListWorkflowExecutionsRequest,
    ScanWorkflowExecutionsRequest,
)
from perdure.core.errors import InvalidArgumentError, NamespaceNotFoundError
from perdure.core.run.records import RunKey
from perdure.core.visibility import AttributeType
from perdure.server.config import ServerConfig
from perdure.server.namespaces import Namespaces
from perdure.server.service.search_attributes import with_attributes
from perdure.server.service.visibility_rpcs import VisibilityRpcs
from perdure.store.memory import MemoryStore
from tests.store.builders import record, run_key, write
from tests.unit.server.support import CALL, make_namespaces, run

S = 1_000_000_000
OPEN, DONE, TERMINATED = 1, 2, 5
PAGE_LIMIT = 4


def _payload(value: object) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())


class Setup:
    """Handlers over a store with runs; `n` names the n-th run's workflow id `workflow-n`."""

    def __init__(self, store: MemoryStore, namespaces: Namespaces) -> None:
        self.store = store
        self.namespaces = namespaces
        self.rpcs = VisibilityRpcs(store, namespaces, ServerConfig(list_page_size=PAGE_LIMIT))

    async def add(self, number: int, namespace: str = "default", **fields: Any) -> RunKey:
        """A run that lists show."""
        key = run_key(number, namespace=self.namespaces.get(namespace).namespace_id)
        blank: dict[str, Any] = {"memo": b"", "search_attributes": b""}
        await self.store.commit([write(key, visibility=record(key, **(blank | fields)))])
        return key

    async def ids(self, query: str, **fields: Any) -> list[str]:
        """Workflow ids of one page of a list."""
        request = ListWorkflowExecutionsRequest(namespace="default", query=query, **fields)
        return _ids((await self.rpcs.list_workflow_executions(request, CALL)).executions)


def _ids(executions: Any) -> list[str]:
    return [info.execution.workflow_id for info in executions]


async def _setup() -> Setup:
    """Two open runs, three closed ones, one of another type; one in another namespace; one in a division."""
    store, namespaces = await make_namespaces("other")
    await namespaces.update(with_attributes(namespaces.get("default"), {"Colour": AttributeType.KEYWORD}))
    setup = Setup(store, namespaces)
    await setup.add(1, start_ns=10 * S)
    await setup.add(2, start_ns=20 * S, attributes={"Colour": "red"})
    await setup.add(3, start_ns=5 * S, close_ns=30 * S)
    await setup.add(4, start_ns=6 * S, close_ns=40 * S, status=TERMINATED)
    await setup.add(5, start_ns=7 * S, close_ns=50 * S, workflow_type="Refund")
    await setup.add(6, "other", start_ns=8 * S)
    await setup.add(7, start_ns=9 * S, attributes={"TemporalNamespaceDivision": "hidden"})
    return setup


def test_a_list_shows_this_namespace_open_runs_first_and_no_division_unless_asked() -> None:
    async def scenario() -> None:
        setup = await _setup()
        setup.rpcs = VisibilityRpcs(setup.store, setup.namespaces, ServerConfig())
        everything = [f"workflow-{number}" for number in (2, 1, 5, 4, 3)]
        assert await setup.ids("") == everything
        assert await setup.ids("TemporalNamespaceDivision = 'hidden'") == ["workflow-7"]
        assert await setup.ids("Colour = 'red'") == ["workflow-2"]
        assert await setup.ids("ExecutionStatus = 'Terminated' OR WorkflowType = 'Refund'") == [
            "workflow-5",
            "workflow-4",
        ]

    run(scenario())


@pytest.mark.parametrize("scan", [False, True], ids=["list", "scan"])
def test_pages_hold_every_run_once(scan: bool) -> None:
    async def scenario() -> None:
        setup = await _setup()
        seen: list[str] = []
        token = b""
        while True:
            page: Any
            if scan:
                page = await setup.rpcs.scan_workflow_executions(
                    ScanWorkflowExecutionsRequest(namespace="default", page_size=2, next_page_token=token),
                    CALL,
                )
            else:
                page = await setup.rpcs.list_workflow_executions(
                    ListWorkflowExecutionsRequest(namespace="default", page_size=2, next_page_token=token),
                    CALL,
                )
            seen += _ids(page.executions)
            token = page.next_page_token
            if not token:
                break
        assert seen == [f"workflow-{number}" for number in (2, 1, 5, 4, 3)]

    run(scenario())


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
def test_a_list_can_be_ordered_by_an_indexed_attribute(direction: str) -> None:
    """By start time over pages of two; the fixed order has open runs first."""

    async def scenario() -> None:
        setup = await _setup()
        seen: list[str] = []
        token = b""
        while True:
            page = await setup.rpcs.list_workflow_executions(
                ListWorkflowExecutionsRequest(
                    namespace="default",
                    query=f"ORDER BY StartTime {direction}",
                    page_size=2,
                    next_page_token=token,
                ),
                CALL,
            )
            seen += [str(info.start_time.ToNanoseconds()) for info in page.executions]
            token = page.next_page_token
            if not token:
                break
        assert seen == sorted(seen, key=int, reverse=direction == "DESC")
        assert len(seen) == 5

    run(scenario())


@pytest.mark.parametrize("size", [0, -1, PAGE_LIMIT + 1, 2**31 - 1])
def test_a_page_has_at_most_the_configured_size(size: int) -> None:
    async def scenario() -> None:
        assert len(await (await _setup()).ids("", page_size=size)) == PAGE_LIMIT

    run(scenario())


def test_an_open_run_is_shown_without_what_only_closed_ones_have() -> None:
    async def scenario() -> None:
        setup = await _setup()
        memo = Memo(fields={"note": _payload("x")})
        attributes = SearchAttributes(indexed_fields={"Colour": _payload("blue")})
        key = await setup.add(
            9,
            start_ns=99 * S,
            memo=memo.SerializeToString(),
            search_attributes=attributes.SerializeToString(),
            attributes={"Colour": "blue"},
            parent_workflow_id="parent",
            parent_run_id="parent-run",
        )
        request = ListWorkflowExecutionsRequest(namespace="default", query="WorkflowId = 'workflow-9'")
        (info,) = (await setup.rpcs.list_workflow_executions(request, CALL)).executions
        assert (info.execution.workflow_id, info.execution.run_id) == (key.workflow_id, key.run_id)
        assert (info.type.name, info.task_queue, info.status) == ("Order", "orders", OPEN)
        assert info.start_time == Timestamp(seconds=99)
        assert info.execution_time == Timestamp(seconds=99, nanos=5)
        assert info.memo == memo
        assert info.search_attributes.indexed_fields["Colour"].metadata["type"] == b"Keyword"
        assert info.search_attributes.indexed_fields["Colour"].data == b'"blue"'
        assert info.parent_execution.workflow_id == "parent"
        assert info.root_execution.run_id == key.run_id
        assert not info.HasField("close_time")
        assert not info.HasField("execution_duration")
        assert (info.history_length, info.history_size_bytes) == (0, 0)

    run(scenario())


def test_a_closed_run_is_shown_with_its_end_and_its_size() -> None:
    async def scenario() -> None:
        setup = await _setup()
        request = ListWorkflowExecutionsRequest(namespace="default", query="WorkflowId = 'workflow-3'")
        (info,) = (await setup.rpcs.list_workflow_executions(request, CALL)).executions
        assert info.status == DONE
        assert info.close_time == Timestamp(seconds=30)
        assert info.execution_duration.ToNanoseconds() == 25 * S - 5
        assert (info.history_length, info.history_size_bytes, info.state_transition_count) == (7, 700, 3)
        assert not info.HasField("parent_execution")

    run(scenario())


def test_counts_are_of_all_that_match_or_by_status() -> None:
    async def scenario() -> None:
        setup = await _setup()

        async def count(query: str) -> Any:
            request = CountWorkflowExecutionsRequest(namespace="default", query=query)
            return await setup.rpcs.count_workflow_executions(request, CALL)

        total = await count("")
        assert (total.count, list(total.groups)) == (5, [])
        assert (await count("WorkflowType = 'Nothing'")).count == 0
        grouped = await count("WorkflowId STARTS_WITH 'workflow' GROUP BY ExecutionStatus")
        assert grouped.count == 5
        groups = {}
        for group in grouped.groups:
            (value,) = group.group_values
            assert dict(value.metadata) == {"encoding": b"json/plain", "type": b"Keyword"}
            groups[json.loads(value.data)] = group.count
        assert groups == {"Running": 2, "Completed": 2, "Terminated": 1}

    run(scenario())


def test_the_older_list_of_open_runs_filters_by_id_type_and_start_time() -> None:
    async def scenario() -> None:
        setup = await _setup()

        async def ids(**filters: Any) -> list[str]:
            request = ListOpenWorkflowExecutionsRequest(namespace="default", **filters)
            return _ids((await setup.rpcs.list_open_workflow_executions(request, CALL)).executions)

        assert await ids() == ["workflow-2", "workflow-1"]
        assert await ids(execution_filter=WorkflowExecutionFilter(workflow_id="workflow-1")) == ["workflow-1"]
        assert await ids(type_filter=WorkflowTypeFilter(name="Refund")) == []
        late = StartTimeFilter(earliest_time=Timestamp(seconds=11))
        assert await ids(start_time_filter=late) == ["workflow-2"]
        early = StartTimeFilter(latest_time=Timestamp(seconds=10))
        assert await ids(start_time_filter=early) == ["workflow-1"]
        assert await ids(maximum_page_size=1) == ["workflow-2"]

    run(scenario())


def test_the_older_list_of_closed_runs_filters_by_status_and_close_time() -> None:
    async def scenario() -> None:
        setup = await _setup()

        async def ids(**filters: Any) -> list[str]:
            request = ListClosedWorkflowExecutionsRequest(namespace="default", **filters)
            return _ids((await setup.rpcs.list_closed_workflow_executions(request, CALL)).executions)

        assert await ids() == ["workflow-5", "workflow-4", "workflow-3"]
        assert await ids(status_filter=StatusFilter(status=TERMINATED)) == ["workflow-4"]  # type: ignore[arg-type]
        assert await ids(type_filter=WorkflowTypeFilter(name="Refund")) == ["workflow-5"]
        between = StartTimeFilter(earliest_time=Timestamp(seconds=30), latest_time=Timestamp(seconds=40))
        assert await ids(start_time_filter=between) == ["workflow-4", "workflow-3"]
        for status in (0, OPEN):
            with pytest.raises(InvalidArgumentError, match="StatusFilter must be specified"):
                await ids(status_filter=StatusFilter(status=status))  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="should not be larger than LatestTime"):
            await ids(
                start_time_filter=StartTimeFilter(
                    earliest_time=Timestamp(seconds=2), latest_time=Timestamp(seconds=1)
                )
            )

    run(scenario())


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("Nope = 1", "invalid query: invalid search attribute: Nope"),
        ("WorkflowId =", "invalid query: malformed"),
        ("ORDER BY WorkflowType", "'ORDER BY' clause"),
        ("ORDER BY StartTime, CloseTime", "'ORDER BY' clause"),
        ("ORDER BY BuildIds", "'ORDER BY' clause"),
        ("GROUP BY WorkflowType", "'GROUP BY' clause is not supported"),
        ("x" * 20_000, "longer than"),
    ],
)
def test_a_bad_query_is_refused_with_its_reason(query: str, message: str) -> None:
    async def scenario() -> None:
        setup = await _setup()
        with pytest.raises(InvalidArgumentError, match=message):
            await setup.ids(query)

    run(scenario())


def test_a_query_follows_the_attributes_that_are_defined_now() -> None:
    async def scenario() -> None:
        setup = await _setup()
        query = "Taste = 'sweet'"
        with pytest.raises(InvalidArgumentError):
            await setup.ids(query)
        namespace = setup.namespaces.get("default")
        await setup.namespaces.update(with_attributes(namespace, {"Taste": AttributeType.KEYWORD}))
        await setup.add(8, attributes={"Taste": "sweet"})
        assert await setup.ids(query) == ["workflow-8"]
        await setup.namespaces.update(replace(setup.namespaces.get("default"), search_attributes={}))
        with pytest.raises(InvalidArgumentError):
            await setup.ids(query)

    run(scenario())


def test_bad_tokens_namespaces_and_archives_are_refused() -> None:
    async def scenario() -> None:
        setup = await _setup()
        with pytest.raises(InvalidArgumentError, match="Invalid next page token"):
            await setup.ids("", next_page_token=b"forged")
        with pytest.raises(NamespaceNotFoundError):
            await setup.rpcs.list_workflow_executions(ListWorkflowExecutionsRequest(namespace="gone"), CALL)
        with pytest.raises(InvalidArgumentError, match="not configured for visibility archival"):
            await setup.rpcs.list_archived_workflow_executions(
                ListArchivedWorkflowExecutionsRequest(namespace="default"), CALL
            )

    run(scenario())


def test_shown_runs_are_copies_that_nobody_can_change_in_the_store() -> None:
    async def scenario() -> None:
        setup = await _setup()
        request = ListWorkflowExecutionsRequest(namespace="default", page_size=1)
        (first,) = (await setup.rpcs.list_workflow_executions(request, CALL)).executions
        before = WorkflowExecutionInfo()
        before.CopyFrom(first)
        first.task_queue = "changed"
        (again,) = (await setup.rpcs.list_workflow_executions(request, CALL)).executions
        assert again == before

    run(scenario())
