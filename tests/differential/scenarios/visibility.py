"""Lists by custom search attributes, and the attributes themselves: added, used, removed, added again."""

from __future__ import annotations

import json
from typing import Any

from tests.differential.context import Context
from tests.differential.registry import scenario, slow_scenario
from tests.support.builders import complete_workflow, payloads
from tests.support.proto import common, enums, operatorservice, workflowservice
from tests.support.rpc import RpcError

KEYWORD = enums.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
INT = enums.IndexedValueType.INDEXED_VALUE_TYPE_INT
SETTLED_S = 60.0
"""How long the official server may take until it knows of an attribute everywhere."""

RUNS: dict[str, dict[str, Any]] = {
    "a": {"Shade": "red", "Count": 1, "Note": "One small parcel", "BuildIds": ["x", "y"]},
    "b": {"Shade": "red", "Count": 20, "Note": "Two PARCELS"},
    "c": {"Shade": "dark red", "Count": -3, "BuildIds": ["y"]},
    "d": {"Shade": "Red"},
    "e": {"Count": 20, "Note": "small"},
    "f": {},
}
CONDITIONS = (
    "Shade = 'red'",
    "Shade != 'red'",
    "Shade IN ('red', 'Red')",
    "Shade NOT IN ('red', 'Red')",
    "Shade STARTS_WITH 'dark'",
    "Shade NOT STARTS_WITH 'dark'",
    "Shade > 'dark red'",
    "Shade BETWEEN 'R' AND 'red'",
    "Shade IS NULL",
    "Shade IS NOT NULL",
    "Count = 20",
    "Count != 20",
    "Count > 0",
    "Count <= 1",
    "Count IN (1, -3)",
    "Count BETWEEN -5 AND 5",
    "Count NOT BETWEEN -5 AND 5",
    "Count IS NULL",
    "Note = 'parcel'",
    "Note = 'SMALL'",
    "Note != 'small'",
    "Note IS NULL",
    "BuildIds = 'y'",
    "BuildIds != 'y'",
    "BuildIds IN ('x', 'z')",
    "BuildIds NOT IN ('x', 'z')",
    "Shade = 'red' AND Count = 20",
    "Shade = 'red' OR Count = 20",
    "NOT (Shade = 'red' OR Count = 20)",
    "(Shade = 'red' AND NOT Note = 'two') OR BuildIds = 'y'",
    "HistoryLength >= 4",
    "ExecutionDuration < '1h'",
    "StateTransitionCount > 0 AND HistorySizeBytes > 0",
)


def _fields(values: dict[str, Any]) -> common.SearchAttributes:
    encoded = {
        name: common.Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())
        for name, value in values.items()
    }
    return common.SearchAttributes(indexed_fields=encoded)


async def _found(ctx: Context, query: str) -> list[str]:
    request = workflowservice.ListWorkflowExecutionsRequest(namespace=ctx.client.namespace, query=query)
    response = await ctx.client.call(request, workflowservice.ListWorkflowExecutionsResponse)
    return sorted(info.execution.workflow_id for info in response.executions)


async def _count(ctx: Context, query: str) -> int:
    request = workflowservice.CountWorkflowExecutionsRequest(namespace=ctx.client.namespace, query=query)
    return (await ctx.client.call(request, workflowservice.CountWorkflowExecutionsResponse)).count


@slow_scenario
async def list_by_custom_attributes(ctx: Context) -> None:
    """Every operator on every type: which closed runs are found and how many are counted."""
    kind = common.WorkflowType(name=ctx.id("kind"))
    for label, values in RUNS.items():
        run = await ctx.start(label, workflow_type=kind, search_attributes=_fields(values))
        await run.step(complete_workflow(payloads("done")))
    base = f"WorkflowType = '{kind.name}' AND ExecutionStatus = 'Completed'"
    await ctx.until("all are listed as closed", lambda: _count(ctx, base), lambda found: found == len(RUNS))
    for condition in CONDITIONS:
        query = f"{base} AND ({condition})"
        ctx.record(f"list {condition}", await _found(ctx, query))
        ctx.record(f"count {condition}", await _count(ctx, query))


@scenario
async def custom_attributes_refused(ctx: Context) -> None:
    """Values and filters that do not suit an attribute's type."""
    values: dict[str, dict[str, Any]] = {
        "unknown": {"Nope": "x"},
        "text for a number": {"Count": "many"},
        "number for a keyword": {"Shade": 5},
        "two values": {"Shade": ["a", "b"]},
        "system": {"WorkflowType": "x"},
        "long": {"Shade": "x" * 3_000},
    }
    for label, given in values.items():
        start = ctx.client.start_request(ctx.id(label), ctx.id("queue"), search_attributes=_fields(given))
        await ctx.attempt(f"start: {label}", start, drop=("run_id",))
    for condition in (
        "Shade = 5",
        "Count = 'many'",
        "Count STARTS_WITH '1'",
        "Note > 'a'",
        "Note IN ('a')",
        "BuildIds > 'x'",
        "BuildIds STARTS_WITH 'x'",
        "BuildIds BETWEEN 'a' AND 'b'",
        "Shade = 'x' ORDER BY Count",
        "ORDER BY Note",
        "GROUP BY Shade",
    ):
        request = workflowservice.CountWorkflowExecutionsRequest(
            namespace=ctx.client.namespace, query=condition
        )
        await ctx.attempt(f"count: {condition}", request)


@slow_scenario
async def attributes_come_and_go(ctx: Context) -> None:
    """Added, found by, removed, unknown, added again with another type."""
    namespace, name = ctx.client.namespace, "Fleeting"
    add = operatorservice.AddSearchAttributesRequest(namespace=namespace)
    add.search_attributes[name] = KEYWORD
    await ctx.attempt("add", add)

    async def started(label: str, value: Any) -> bool:
        try:
            await ctx.start(label, task_queue=ctx.id("queue"), search_attributes=_fields({name: value}))
        except RpcError as error:
            if error.code != "INVALID_ARGUMENT":
                raise
            return False
        return True

    async def counted(query: str) -> int:
        try:
            return await _count(ctx, query)
        except RpcError:
            return -1

    await ctx.until("a run has it", lambda: started("first", "x"), bool, timeout_s=SETTLED_S)
    query = f"TaskQueue = '{ctx.id('queue')}' AND {name}"
    await ctx.until("it is found", lambda: counted(f"{query} = 'x'"), lambda n: n == 1, timeout_s=SETTLED_S)
    remove = operatorservice.RemoveSearchAttributesRequest(namespace=namespace, search_attributes=[name])
    await ctx.attempt("remove", remove)
    await ctx.until("it is unknown", lambda: counted(f"{query} = 'x'"), lambda n: n < 0, timeout_s=SETTLED_S)
    count = workflowservice.CountWorkflowExecutionsRequest(namespace=namespace, query=f"{name} = 'x'")
    await ctx.attempt("count by what is gone", count)
    await ctx.attempt("remove again", remove)
    add.search_attributes[name] = INT
    await ctx.attempt("add with another type", add)
    await ctx.until("another run has it", lambda: started("second", 5), bool, timeout_s=SETTLED_S)
    await ctx.until("that is found", lambda: counted(f"{query} = 5"), lambda n: n == 1, timeout_s=SETTLED_S)
    ctx.record("the first does not have it", await _found(ctx, f"{query} IS NULL"))
    await ctx.attempt("remove at last", remove)
    reserved = operatorservice.AddSearchAttributesRequest(namespace=namespace)
    reserved.search_attributes["WorkflowId"] = KEYWORD
    await ctx.attempt("reserved", reserved)
    built_in = operatorservice.RemoveSearchAttributesRequest(
        namespace=namespace, search_attributes=["WorkflowId"]
    )
    await ctx.attempt("remove a built-in one", built_in)
