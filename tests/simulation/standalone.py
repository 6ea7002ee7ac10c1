"""Standalone activities in the simulation: a client that takes some through their lives.

An activity's specification goes to the worker in its input, so the outcome that it must have is known: nothing that was
acknowledged is lost, no outcome changes, and there are at most the attempts that the policy allows.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from google.protobuf.message import Message

from perdure.api.workflowservice.v1 import (
    CountActivityExecutionsRequest,
    CountActivityExecutionsResponse,
    DeleteActivityExecutionRequest,
    DeleteActivityExecutionResponse,
    DescribeActivityExecutionRequest,
    DescribeActivityExecutionResponse,
    PauseActivityExecutionRequest,
    PauseActivityExecutionResponse,
    PollActivityExecutionRequest,
    PollActivityExecutionResponse,
    RequestCancelActivityExecutionRequest,
    RequestCancelActivityExecutionResponse,
    StartActivityExecutionRequest,
    StartActivityExecutionResponse,
    TerminateActivityExecutionRequest,
    TerminateActivityExecutionResponse,
    UnpauseActivityExecutionRequest,
    UnpauseActivityExecutionResponse,
)
from perdure.core.run.records import RunKey, RunKind
from tests.simulation.context import Context
from tests.simulation.interpreter import payloads, value_of
from tests.simulation.loop import Node
from tests.simulation.model import check
from tests.simulation.network import CallFailed
from tests.simulation.program import activity_value
from tests.simulation.runtime import new_uuid

Response = TypeVar("Response", bound=Message)
_COMPLETED, _FAILED, _TERMINATED = 2, 3, 5


@dataclass(slots=True)
class Plan:
    """What is to be done with one activity."""

    namespace: str
    activity_id: str
    spec: dict[str, Any]
    starts_at_s: float
    cancel_at_s: float | None
    terminate_at_s: float | None
    pause_at_s: float | None
    delete: bool
    again: bool


def _draw(random: Random, number: int, namespace: str) -> Plan:
    attempts = random.choice((0, 1, 2, 3))
    spec: dict[str, Any] = {
        "attempts": attempts,
        "fails": random.choice((0, 0, 1, 2)),
        "hangs": random.choice((0, 0, 0, 1)),
        "duration_s": random.choice((0.0, 0.5, 4.0)),
        "non_retryable": random.random() < 0.1,
        "by_id": random.random() < 0.15,
    }
    if random.random() < 0.4:
        spec["heartbeat_s"] = 2.0
        spec["on_cancel"] = random.choice(("finish", "confirm"))

    def perhaps(chance: float) -> float | None:
        return random.uniform(0, 15) if random.random() < chance else None

    return Plan(
        namespace,
        f"solo{number}",
        spec,
        random.uniform(0, 20),
        perhaps(0.2),
        perhaps(0.1),
        perhaps(0.2),
        random.random() < 0.2,
        random.random() < 0.2,
    )


class StandaloneClient:
    """A client process with a few standalone activities.

    Args:
        context: the world.
        node: the process.
        name: unique.
        namespaces: where to start them.
        task_queue: where the workers are.
    """

    def __init__(
        self, context: Context, node: Node, name: str, namespaces: tuple[str, ...], task_queue: str
    ) -> None:
        self._context = context
        self._loop = context.loop
        self._node = node
        self._random = context.stream(f"standalone {name}")
        self._task_queue = task_queue
        self.unfinished = 0
        for plan in self._plans(namespaces):
            self._begin(self._follow(plan))

    def _plans(self, namespaces: tuple[str, ...]) -> list[Plan]:
        """What to do from the beginning."""
        random = self._random
        return [_draw(random, number, random.choice(namespaces)) for number in range(random.randint(1, 4))]

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

    async def _follow(self, plan: Plan) -> None:
        await self._loop.sleep(plan.starts_at_s)
        run = await self._start(plan)
        for at_s, act in (
            (plan.cancel_at_s, self._cancel),
            (plan.terminate_at_s, self._terminate),
            (plan.pause_at_s, self._pause),
        ):
            if at_s is not None:
                self._begin(self._at(at_s, act, plan, run))
        await self._outcome(plan, run)
        await self._look(plan, run)
        if plan.again:
            again = await self._start(plan)
            check(again != run, "an id whose execution ended can be used again", run)
            await self._outcome(plan, again)
        if plan.delete:
            await self._delete(plan, run)

    async def _at(
        self,
        delay_s: float,
        act: Callable[[Plan, RunKey], Coroutine[Any, Any, None]],
        plan: Plan,
        run: RunKey,
    ) -> None:
        await self._loop.sleep(delay_s)
        await act(plan, run)

    async def _start(self, plan: Plan) -> RunKey:
        origin = {"namespace": plan.namespace, "workflow_id": ""}
        document = {"id": plan.activity_id, "spec": plan.spec, "origin": origin}
        request = StartActivityExecutionRequest(
            namespace=plan.namespace,
            activity_id=plan.activity_id,
            request_id=new_uuid(self._random),
            input=payloads(document),
        )
        request.activity_type.name = "work"
        request.task_queue.name = self._task_queue
        request.start_to_close_timeout.seconds = 8
        request.retry_policy.initial_interval.seconds = 1
        request.retry_policy.backoff_coefficient = 1.0
        request.retry_policy.maximum_attempts = plan.spec["attempts"]
        if "heartbeat_s" in plan.spec:
            request.heartbeat_timeout.seconds = int(plan.spec["heartbeat_s"])
        answer = await self._call(request, StartActivityExecutionResponse)
        assert isinstance(answer, StartActivityExecutionResponse)
        namespace_id = self._context.namespace_ids[plan.namespace]
        run = RunKey(namespace_id, plan.activity_id, answer.run_id, RunKind.ACTIVITY)
        self._context.oracle.standalone.state(run)
        return run

    def _about(self, plan: Plan, run: RunKey) -> dict[str, Any]:
        return {"namespace": plan.namespace, "activity_id": plan.activity_id, "run_id": run.run_id}

    async def _outcome(self, plan: Plan, run: RunKey) -> None:
        """Polls until the outcome comes, and checks that it is one that the specification allows."""
        request = PollActivityExecutionRequest(**self._about(plan, run))
        while True:
            answer = await self._call(request, PollActivityExecutionResponse, "NotFoundError", timeout_s=30.0)
            if isinstance(answer, CallFailed):
                return  # its retention is over: the clock was set forward
            if answer.run_id:
                break
        state = self._context.oracle.standalone.state(run)
        check(answer.outcome == state.outcome, "the outcome that is told is the one that is kept", run)
        status = state.header.status
        if status == _COMPLETED:
            value = value_of(answer.outcome.result)
            check(value == activity_value(plan.activity_id), "activities do not mix", value)
        if status == _FAILED:
            exhausted = state.header.attempt.attempt >= plan.spec["attempts"] > 0
            asked = state.header.cancel_ns > 0
            check(
                plan.spec["non_retryable"] or exhausted or asked,
                "a failure is final only when nothing follows",
                run,
            )

    async def _look(self, plan: Plan, run: RunKey) -> None:
        """Describes it and counts: lists agree with what is known."""
        request = DescribeActivityExecutionRequest(**self._about(plan, run), include_outcome=True)
        answer = await self._call(request, DescribeActivityExecutionResponse, "NotFoundError")
        if isinstance(answer, DescribeActivityExecutionResponse):
            check(answer.info.HasField("close_time"), "a description agrees with the outcome", run)
        query = f"RunId = '{run.run_id}' AND ExecutionStatus != 'Running'"
        counting = CountActivityExecutionsRequest(namespace=plan.namespace, query=query)
        counted = await self._call(counting, CountActivityExecutionsResponse)
        assert isinstance(counted, CountActivityExecutionsResponse)
        there = run in self._context.oracle.standalone.states
        check(counted.count == 1 or not there, "what ended is listed as ended", run)

    async def _cancel(self, plan: Plan, run: RunKey) -> None:
        request = RequestCancelActivityExecutionRequest(
            **self._about(plan, run), request_id=new_uuid(self._random), reason="planned"
        )
        answer = await self._call(
            request, RequestCancelActivityExecutionResponse, "FailedPreconditionError", "NotFoundError"
        )
        if not isinstance(answer, CallFailed):
            header = self._context.oracle.standalone.state(run).header
            check(header.cancel_ns > 0, "an acknowledged cancellation is durable", run)

    async def _terminate(self, plan: Plan, run: RunKey) -> None:
        request = TerminateActivityExecutionRequest(
            **self._about(plan, run), request_id=new_uuid(self._random), reason="planned"
        )
        answer = await self._call(
            request, TerminateActivityExecutionResponse, "FailedPreconditionError", "NotFoundError"
        )
        if not isinstance(answer, CallFailed):
            header = self._context.oracle.standalone.state(run).header
            check(header.status == _TERMINATED, "an acknowledged termination is durable", run)

    async def _pause(self, plan: Plan, run: RunKey) -> None:
        """Pauses it for a while."""
        pause = PauseActivityExecutionRequest(
            **self._about(plan, run), request_id=new_uuid(self._random), reason="planned"
        )
        answer = await self._call(
            pause, PauseActivityExecutionResponse, "FailedPreconditionError", "NotFoundError"
        )
        if isinstance(answer, CallFailed):
            return
        self._context.trace.reach("standalone activity paused")
        await self._loop.sleep(self._random.uniform(0, 10))
        unpause = UnpauseActivityExecutionRequest(**self._about(plan, run), request_id=new_uuid(self._random))
        await self._call(
            unpause, UnpauseActivityExecutionResponse, "FailedPreconditionError", "NotFoundError"
        )

    async def _delete(self, plan: Plan, run: RunKey) -> None:
        oracle = self._context.oracle.standalone
        oracle.may_delete.add(run)
        request = DeleteActivityExecutionRequest(**self._about(plan, run))
        await self._call(request, DeleteActivityExecutionResponse, "NotFoundError")
        check(run not in oracle.states, "an acknowledged deletion is durable", run)
