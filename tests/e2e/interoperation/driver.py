"""What a client does with the application, and what it must see. `twins.py` makes the same one of the official SDK."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.client import (
    Client,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from perdure.common import SearchAttributePair, TypedSearchAttributes
from perdure.exceptions import ActivityError, ApplicationError, CancelledError
from tests.e2e.interoperation.application import (
    COLOUR,
    Activities,
    Cancelled,
    Child,
    Failing,
    Item,
    Messages,
    Order,
    Parent,
)
from tests.e2e.python_sdk import unique

Handles = list[WorkflowHandle[Any, Any]]
DUE = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
ORDER = Order("order", [Item("pen", 2), Item("ink")], DUE)


async def activities(client: Client, queue: str) -> Handles:
    """Results and failures of activities."""
    handle = await client.start_workflow(Activities.run, ORDER, id=unique("w"), task_queue=queue)
    refused = ["Refused", "ValueError", "no", [{"name": "no", "count": 7}]]
    failures = [["ActivityError", *refused], ["ApplicationError", *refused]]
    assert await handle.result() == [3, 3, 3, 2, 3, *failures, True]
    return [handle]


async def messages(client: Client, queue: str) -> Handles:
    """Whatever can be sent to a workflow."""
    blue = TypedSearchAttributes([SearchAttributePair(COLOUR, "blue")])
    handle = await client.start_workflow(
        Messages.run, ORDER, id=unique("w"), task_queue=queue, memo={"at": "start"}, search_attributes=blue
    )
    await begin_messages(handle)
    await end_messages(handle)
    return [handle]


async def begin_messages(handle: WorkflowHandle[Any, Any]) -> None:
    """The first half, which leaves the workflow waiting."""
    assert await handle.execute_update(Messages.add, Item("first")) == 1
    await handle.signal(Messages.say, Item("second"))
    with pytest.raises(WorkflowUpdateFailedError) as rejected:
        await handle.execute_update(Messages.add, Item("none", 0))
    assert isinstance(rejected.value.cause, ApplicationError)
    assert (rejected.value.cause.type, rejected.value.cause.message) == ("ValueError", "none of them")
    with pytest.raises(WorkflowUpdateFailedError) as failed:
        await handle.execute_update(Messages.add, Item("all", 99))
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "TooMany"
    assert list(failed.value.cause.details) == [{"name": "all", "count": 99}]


async def end_messages(handle: WorkflowHandle[Any, Any]) -> None:
    """The second half, to its end; another worker may do it."""
    words = await handle.query(Messages.said)
    assert words[0] == "first"
    with pytest.raises(WorkflowQueryFailedError):
        await handle.query("unheard of")
    await handle.execute_update("add", Item("third"), result_type=int)
    await handle.signal("end")
    result = await handle.result()
    assert sorted(result["words"]) == ["first", "second", "third"]
    assert (result["way"], result["timed_out"], result["memo"], result["colour"]) == ("new", True, 1, "red")
    assert datetime.fromisoformat(result["due"]) == DUE
    description = await handle.describe()
    assert (await description.memo())["order"] == "order"
    assert description.typed_search_attributes[COLOUR] == "red"


async def children(client: Client, queue: str) -> Handles:
    """Children, their ends, and the next run."""
    handle = await client.start_workflow(Parent.run, args=[1, []], id=unique("w"), task_queue=queue)
    one_run = ["one", "two", "told", ["Naughty", "ValueError: deep inside"], "CancelledError", True]
    assert await handle.result() == [*one_run, *one_run]
    first = client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    child = await client.start_workflow(Child.run, "alone", id=unique("w"), task_queue=queue)
    assert await child.result() == "alone"
    return [first, client.get_workflow_handle(handle.id), child]


async def ends(client: Client, queue: str) -> Handles:
    """Cancellation with cleaning up; a failure with causes."""
    cancelled = await client.start_workflow(Cancelled.run, id=unique("w"), task_queue=queue)
    await cancelled.cancel()
    with pytest.raises(WorkflowFailureError) as stopped:
        await cancelled.result()
    assert isinstance(stopped.value.cause, CancelledError)
    failing = await client.start_workflow(Failing.run, id=unique("w"), task_queue=queue)
    with pytest.raises(WorkflowFailureError) as failed:
        await failing.result()
    outer = failed.value.cause
    assert isinstance(outer, ApplicationError)
    assert (outer.type, list(outer.details)) == ("Outer", [{"name": "detail", "count": 2}])
    assert isinstance(outer.cause, ActivityError)
    assert outer.cause.activity_type == "refuse"
    refused = outer.cause.cause
    assert isinstance(refused, ApplicationError)
    assert (refused.type, list(refused.details)) == ("Refused", [{"name": "deep", "count": 7}])
    assert isinstance(refused.cause, ApplicationError)
    assert (refused.cause.type, refused.cause.message) == ("ValueError", "deep")
    return [cancelled, failing]


SCENARIOS = [activities, messages, children, ends]
