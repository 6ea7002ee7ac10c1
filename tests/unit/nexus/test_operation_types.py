"""Calls of operations are typed: a wrong input is an error for the type checker, and results have their types.

The functions without `test_` are never called: mypy reads them, and complains of a `type: ignore` that nothing needs.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type, get_overloads

import nexusrpc
import nexusrpc.handler
import pytest

from perdure import activity, client, nexus, workflow


@nexusrpc.service
class Service:
    """Two operations, by their types."""

    length: nexusrpc.Operation[str, int]
    run: nexusrpc.Operation[str, float]


class Other:
    """Not the service that the clients below are of."""

    async def length(self, ctx: nexusrpc.handler.StartOperationContext, word: str) -> int:
        """Like that of the service's handler."""
        raise NotImplementedError


class Handler:
    """A method of each form that can serve an operation."""

    async def length(self, ctx: nexusrpc.handler.StartOperationContext, word: str) -> int:
        """Answers at once."""
        raise NotImplementedError

    def length_in_a_thread(self, ctx: nexusrpc.handler.StartOperationContext, word: str) -> int:
        """Answers at once, too."""
        raise NotImplementedError

    async def run(self, ctx: nexus.WorkflowRunOperationContext, word: str) -> nexus.WorkflowHandle[float]:
        """A workflow answers."""
        raise NotImplementedError

    async def anything(
        self, ctx: nexus.TemporalStartOperationContext, client: nexus.TemporalNexusClient, word: str
    ) -> nexus.TemporalOperationResult[float]:
        """Something of Temporal's answers."""
        raise NotImplementedError

    def handler(self) -> nexusrpc.handler.OperationHandler[str, int]:
        """An object answers."""
        raise NotImplementedError


async def calls_from_workflow_code(
    by_service: workflow.NexusClient[Service], by_handler: workflow.NexusClient[Handler]
) -> None:
    """What a workflow may and may not write."""
    assert_type(await by_service.execute_operation(Service.length, "word"), int)
    assert_type(await by_handler.execute_operation(Handler.length, "word"), int)
    assert_type(await by_handler.execute_operation(Handler.length_in_a_thread, "word"), int)
    assert_type(await by_handler.execute_operation(Handler.run, "word"), float)
    assert_type(await by_handler.execute_operation(Handler.anything, "word"), float)
    assert_type(await by_handler.execute_operation(Handler.handler, "word"), int)
    assert_type(await (await by_handler.start_operation(Handler.run, "word", summary="s")), float)
    assert_type(await by_service.execute_operation("length", "word", output_type=int), int)
    assert_type(await by_service.execute_operation("length", "word"), Any)
    await by_service.execute_operation(Service.length, 1)  # type: ignore[misc]
    await by_handler.execute_operation(Handler.length, 1)  # type: ignore[arg-type]
    await by_handler.execute_operation(Handler.run, 1)  # type: ignore[arg-type]
    await by_handler.execute_operation(Handler.anything, 1)  # type: ignore[arg-type]
    await by_handler.execute_operation(Other.length, "word")  # type: ignore[arg-type]


@activity.defn
async def measure(word: str) -> int:
    """An activity that can answer an operation."""
    raise NotImplementedError


@activity.defn
def measure_both(word: str, other: str) -> float:
    """One of two arguments, in a thread."""
    raise NotImplementedError


async def starts_of_activities(starter: nexus.TemporalNexusClient) -> None:
    """The result of what answers is that of the operation."""
    limit = timedelta(seconds=1)
    assert_type(
        await starter.start_activity(measure, "word", id="a", start_to_close_timeout=limit),
        nexus.TemporalOperationResult[int],
    )
    assert_type(
        await starter.start_activity(
            measure_both, args=["word", "other"], id="a", task_queue="q", schedule_to_close_timeout=limit
        ),
        nexus.TemporalOperationResult[float],
    )
    assert_type(
        await starter.start_activity("measure", "word", id="a", result_type=int),
        nexus.TemporalOperationResult[int],
    )
    await starter.start_activity(measure, 1, id="a", start_to_close_timeout=limit)  # type: ignore[misc]
    await starter.start_activity(measure, "word", start_to_close_timeout=limit)  # type: ignore[call-overload]


async def calls_of_a_client(
    by_service: client.NexusClient[Service], by_handler: client.NexusClient[Handler]
) -> None:
    """The same, from outside."""
    assert_type(await by_service.execute_operation(Service.length, "word", id="o"), int)
    assert_type(await by_handler.execute_operation(Handler.length, "word", id="o"), int)
    assert_type(await by_handler.execute_operation(Handler.length_in_a_thread, "word", id="o"), int)
    assert_type(await by_handler.execute_operation(Handler.run, "word", id="o"), float)
    assert_type(await by_handler.execute_operation(Handler.anything, "word", id="o"), float)
    assert_type(await by_handler.execute_operation(Handler.handler, "word", id="o"), int)
    assert_type(await (await by_handler.start_operation(Handler.run, "word", id="o")).result(), float)
    assert_type(await by_service.execute_operation("length", "word", id="o", result_type=int), int)
    assert_type(await by_service.execute_operation("length", "word", id="o"), Any)
    await by_service.execute_operation(Service.length, 1, id="o")  # type: ignore[misc]
    await by_handler.execute_operation(Handler.length, 1, id="o")  # type: ignore[arg-type]
    await by_handler.execute_operation(Handler.run, 1, id="o")  # type: ignore[arg-type]
    await by_handler.execute_operation(Handler.anything, 1, id="o")  # type: ignore[arg-type]
    await by_handler.execute_operation(Other.length, "word", id="o")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [workflow.NexusClient, client.NexusClient])
def test_what_is_started_can_be_executed(kind: Any) -> None:
    """Both calls of a client take an operation in the same forms."""
    started, executed = get_overloads(kind.start_operation), get_overloads(kind.execute_operation)
    forms = [[each.__annotations__["operation"] for each in call] for call in (started, executed)]
    assert forms[0] == forms[1]
    assert len(forms[0]) == 8
