"""Standalone Nexus operations in the simulation: a client takes some through their lives.

An operation's kind and program go to the handler in its input, so the outcome that it must have is known: nothing that
was acknowledged is lost, no outcome changes, and what a workflow had as its result is what is told.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from google.protobuf.message import Message

from perdure.api.workflowservice.v1 import (
    CountNexusOperationExecutionsRequest,
    CountNexusOperationExecutionsResponse,
    DeleteNexusOperationExecutionRequest,
    DeleteNexusOperationExecutionResponse,
    PollNexusOperationExecutionRequest,
    PollNexusOperationExecutionResponse,
    RequestCancelNexusOperationExecutionRequest,
    RequestCancelNexusOperationExecutionResponse,
    StartNexusOperationExecutionRequest,
    StartNexusOperationExecutionResponse,
    TerminateNexusOperationExecutionRequest,
    TerminateNexusOperationExecutionResponse,
)
from perdure.core.run.records import RunKey, RunKind
from tests.simulation.context import Context
from tests.simulation.interpreter import payload, value_of_payload
from tests.simulation.loop import Node
from tests.simulation.model import check
from tests.simulation.network import CallFailed
from tests.simulation.program import Program, agrees, predict_operation, random_program
from tests.simulation.runtime import new_uuid

Response = TypeVar("Response", bound=Message)
_COMPLETED, _FAILED, _TERMINATED = 2, 3, 5


@dataclass(slots=True)
class _Plan:
    """What is to be done with one operation."""

    namespace: str
    operation_id: str
    kind: str
    program: Program
    starts_at_s: float
    cancel_at_s: float | None
    terminate_at_s: float | None
    timeout_s: float | None
    delete: bool
    again: bool

    @property
    def is_undisturbed(self) -> bool:
        """Whether nothing but the program decides the outcome."""
        return self.cancel_at_s is None and self.terminate_at_s is None and self.timeout_s is None


def _draw(random: Random, number: int, namespace: str) -> _Plan:
    def perhaps(chance: float, longest_s: float) -> float | None:
        return random.uniform(0, longest_s) if random.random() < chance else None

    return _Plan(
        namespace,
        f"call{number}",
        random.choice(("value", "fails", "workflow", "workflow")),
        random_program(random, waits_for_signals=False),
        random.uniform(0, 20),
        perhaps(0.2, 15),
        perhaps(0.15, 15),
        perhaps(0.15, 20),
        random.random() < 0.2,
        random.random() < 0.2,
    )


class OperationClient:
    """A client process with a few standalone operations.

    Args:
        context: the world.
        node: the process.
        name: unique.
        namespaces: where to start them; each has an endpoint of its name.
        task_queue: where the workers are.
    """

    def __init__(
        self, context: Context, node: Node, name: str, namespaces: tuple[str, ...], task_queue: str
    ) -> None:
        self._context = context
        self._loop = context.loop
        self._node = node
        self._random = context.stream(f"operations {name}")
        self._task_queue = task_queue
        self.unfinished = 0
        for number in range(self._random.randint(1, 3)):
            self._begin(self._follow(_draw(self._random, number, self._random.choice(namespaces))))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self.unfinished += 1
        self._context.start(self._node, work).add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self.unfinished -= 1

    async def _call(
        self, request: Message, response: type[Response], *allowed: str, timeout_s: float = 10.0
    ) -> Response | CallFailed:
        """Calls until there is an answer; errors whose names are allowed are answers too."""
        while True:
            try:
                answer = await self._context.network.call(request, response, timeout_s)
            except CallFailed as error:
                self._context.accept(error, *allowed)
                if not error.is_unknown:
                    return error
                await self._loop.sleep(self._random.uniform(0.05, 2.0))
                continue
            self._context.calls_answered += 1
            return answer

    async def _follow(self, plan: _Plan) -> None:
        await self._loop.sleep(plan.starts_at_s)
        run = await self._start(plan)
        for at_s, act in ((plan.cancel_at_s, self._cancel), (plan.terminate_at_s, self._terminate)):
            if at_s is not None:
                self._begin(self._at(at_s, act, plan, run))
        await self._outcome(plan, run)
        await self._count(plan, run)
        if plan.again:
            again = await self._start(plan)
            check(again != run, "an id whose execution ended can be used again", run)
            await self._outcome(plan, again)
        if plan.delete:
            await self._delete(plan, run)

    async def _at(
        self,
        delay_s: float,
        act: Callable[[_Plan, RunKey], Coroutine[Any, Any, None]],
        plan: _Plan,
        run: RunKey,
    ) -> None:
        await self._loop.sleep(delay_s)
        await act(plan, run)

    async def _start(self, plan: _Plan) -> RunKey:
        origin = {"namespace": plan.namespace, "workflow_id": "", "task_queue": self._task_queue}
        document = {"id": plan.operation_id, "program": plan.program, "origin": origin}
        request = StartNexusOperationExecutionRequest(
            namespace=plan.namespace,
            operation_id=plan.operation_id,
            request_id=new_uuid(self._random),
            endpoint=plan.namespace,
            service="simulated",
            operation=plan.kind,
            input=payload(document),
        )
        if plan.timeout_s is not None:
            request.schedule_to_close_timeout.FromMilliseconds(int(plan.timeout_s * 1000) + 1)
        answer = await self._call(request, StartNexusOperationExecutionResponse)
        assert isinstance(answer, StartNexusOperationExecutionResponse)
        namespace_id = self._context.namespace_ids[plan.namespace]
        run = RunKey(namespace_id, plan.operation_id, answer.run_id, RunKind.NEXUS_OPERATION)
        self._context.oracle.operations.state(run)
        return run

    def _about(self, plan: _Plan, run: RunKey) -> dict[str, Any]:
        return {"namespace": plan.namespace, "operation_id": plan.operation_id, "run_id": run.run_id}

    async def _outcome(self, plan: _Plan, run: RunKey) -> None:
        """Polls until the outcome comes, and checks that it is the one that the program has."""
        request = PollNexusOperationExecutionRequest(**self._about(plan, run))
        response = PollNexusOperationExecutionResponse
        while True:
            answer = await self._call(request, response, "NotFoundError", timeout_s=30.0)
            if isinstance(answer, CallFailed):
                return  # its retention is over: the clock was set forward
            if answer.run_id:
                break
        state = self._context.oracle.operations.state(run)
        kept = state.outcome
        assert kept is not None
        same = answer.WhichOneof("outcome") == kept.WhichOneof("outcome") and (
            answer.result == kept.result and answer.failure == kept.failure
        )
        check(same, "the outcome that is told is the one that is kept", run)
        status = state.header.status
        predicted = predict_operation(plan.operation_id, plan.kind, plan.program)
        if status == _COMPLETED:
            value = value_of_payload(answer.result)
            check(agrees(predicted, value), "an operation has the result of what it was", f"{run} {value}")
        elif plan.is_undisturbed:
            check(status == _FAILED, "what nobody disturbs completes or fails", f"{run} {status}")
            check(predicted == ["failed"], "only what is to fail fails", f"{run} {kept}")

    async def _count(self, plan: _Plan, run: RunKey) -> None:
        """Lists agree with what is known."""
        query = f"RunId = '{run.run_id}' AND ExecutionStatus != 'Running' AND Operation = '{plan.kind}'"
        counting = CountNexusOperationExecutionsRequest(namespace=plan.namespace, query=query)
        counted = await self._call(counting, CountNexusOperationExecutionsResponse)
        assert isinstance(counted, CountNexusOperationExecutionsResponse)
        there = run in self._context.oracle.operations.states
        check(counted.count == 1 or not there, "what ended is listed as ended", run)

    async def _cancel(self, plan: _Plan, run: RunKey) -> None:
        request = RequestCancelNexusOperationExecutionRequest(
            **self._about(plan, run), request_id=new_uuid(self._random), reason="planned"
        )
        response = RequestCancelNexusOperationExecutionResponse
        answer = await self._call(request, response, "FailedPreconditionError", "NotFoundError")
        if not isinstance(answer, CallFailed):
            header = self._context.oracle.operations.state(run).header
            check(header.cancel_asked_ns > 0, "an acknowledged cancellation is durable", run)

    async def _terminate(self, plan: _Plan, run: RunKey) -> None:
        request = TerminateNexusOperationExecutionRequest(
            **self._about(plan, run), request_id=new_uuid(self._random), reason="planned"
        )
        response = TerminateNexusOperationExecutionResponse
        answer = await self._call(request, response, "FailedPreconditionError", "NotFoundError")
        if not isinstance(answer, CallFailed):
            header = self._context.oracle.operations.state(run).header
            check(header.status == _TERMINATED, "an acknowledged termination is durable", run)

    async def _delete(self, plan: _Plan, run: RunKey) -> None:
        oracle = self._context.oracle.operations
        oracle.may_delete.add(run)
        request = DeleteNexusOperationExecutionRequest(**self._about(plan, run))
        await self._call(request, DeleteNexusOperationExecutionResponse, "NotFoundError")
        check(run not in oracle.states, "an acknowledged deletion is durable", run)
