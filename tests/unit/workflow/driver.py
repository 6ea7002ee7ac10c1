"""Drives workflow code with activations made by hand: no server, no history, no worker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from perdure.api.common.v1 import Header, Payload, Payloads
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import WorkflowExecutionStartedEventAttributes
from perdure.api.query.v1 import WorkflowQuery
from perdure.converter import default
from perdure.core.replay.activation import (
    Activation,
    CancelWorkflow,
    DoUpdate,
    FireTimer,
    InitializeWorkflow,
    Job,
    QueryWorkflow,
    ResolveActivity,
    SignalWorkflow,
)
from perdure.core.replay.instructions import Answer, AnswerQuery, Instruction
from perdure.exceptions import ActivityError, CancelledError, RetryState
from perdure.worker.workflow_code import WorkflowCodeSettings, WorkflowProgram, generations
from perdure.workflow import _Definition

T = TypeVar("T")
START_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
CONVERTER = default()
pause = asyncio.sleep
"""In workflow code this is no sleep but a timer, which the test fires."""


def payloads(*values: Any) -> Payloads:
    """Values as they come over the wire."""
    return Payloads(payloads=CONVERTER.payload_converter.to_payloads(values))


def value_of(message: Payloads | Payload | None) -> Any:
    """One value as it would arrive."""
    if message is None:
        return None
    payload = message.payloads[0] if isinstance(message, Payloads) else message
    return CONVERTER.payload_converter.from_payload(payload)


def failure_of(error: BaseException) -> Failure:
    """An error as it comes over the wire."""
    failure = Failure()
    CONVERTER.failure_converter.to_failure(error, CONVERTER.payload_converter, failure)
    return failure


def activity_failure(cause: BaseException) -> Failure:
    """What a failed activity ends with."""
    error = ActivityError(
        "Activity error",
        scheduled_event_id=5,
        started_event_id=6,
        identity="worker",
        activity_type="some",
        activity_id="1",
        retry_state=RetryState.MAXIMUM_ATTEMPTS_REACHED,
    )
    error.__cause__ = cause
    return failure_of(error)


def signal(name: str, *args: Any) -> SignalWorkflow:
    """A signal that arrives."""
    return SignalWorkflow(name, payloads(*args), Header(), "caller")


def update(name: str, *args: Any, id: str = "update-1", run_validator: bool = True) -> DoUpdate:
    """An update that arrives."""
    return DoUpdate(f"instance-{id}", id, name, payloads(*args), Header(), "caller", run_validator)


def cancelled_activity(seq: int) -> ResolveActivity:
    """The end of an activity that was cancelled."""
    return ResolveActivity(seq, failure=activity_failure(CancelledError()), is_canceled=True)


class Driver:
    """One run of a workflow class.

    Attributes:
        program: the code.
        answer: the last answer.
        now_ns: workflow time of the next activation.
        is_replaying: of the next activations.
    """

    def __init__(
        self,
        workflow_class: type,
        *args: Any,
        seed: int = 7,
        memo: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        generations.install()
        self.definition = _Definition.must_from_class(workflow_class)
        self.settings = replace(
            WorkflowCodeSettings(
                "default",
                "queue",
                {self.definition.name: self.definition},
                CONVERTER.payload_converter,
                CONVERTER.failure_converter,
            ),
            **settings,
        )
        self.program = WorkflowProgram(self.definition, "workflow-id", "run-id", self.settings)
        self.now_ns = START_NS
        self.is_replaying = False
        self.available_flags: Sequence[int] = ()
        self.answer = Answer()
        started = WorkflowExecutionStartedEventAttributes(input=payloads(*args), attempt=1)
        started.workflow_type.name = self.definition.name or "SomeType"
        for key, value in (memo or {}).items():
            started.memo.fields[key].CopyFrom(payloads(value).payloads[0])
        self.started = started
        self.first_job = InitializeWorkflow(started, "workflow-id", START_NS, seed)

    def start(self, *more: Job) -> list[Instruction]:
        """The first activation."""
        return self.send(self.first_job, *more)

    def send(self, *jobs: Job, expects_failure: bool = False) -> list[Instruction]:
        """An activation; what the code asked for."""
        self.answer = self.program.activate(
            Activation(
                now_ns=self.now_ns,
                is_replaying=self.is_replaying,
                history_length=3,
                jobs=jobs,
                available_flags=self.available_flags,
            )
        )
        if not expects_failure:
            assert self.answer.task_failure is None, self.answer.task_failure
        return list(self.answer.instructions)

    def task_failure(self, *jobs: Job) -> Failure:
        """An activation whose task fails."""
        self.send(*jobs, expects_failure=True)
        assert self.answer.task_failure is not None, self.answer
        return self.answer.task_failure

    def resolve(self, seq: int, value: Any = None) -> list[Instruction]:
        """An activity ends."""
        return self.send(ResolveActivity(seq, payloads(value)))

    def fire(self, seq: int, after_s: float = 0) -> list[Instruction]:
        """A timer fires."""
        self.now_ns += int(after_s * SECOND_NS)
        return self.send(FireTimer(seq))

    def cancel(self, reason: str = "") -> list[Instruction]:
        """The run is asked to cancel."""
        return self.send(CancelWorkflow(reason))

    def query(self, name: str, *args: Any) -> AnswerQuery:
        """A question and its answer."""
        (answer,) = self.send(
            QueryWorkflow("query-1", WorkflowQuery(query_type=name, query_args=payloads(*args)))
        )
        assert isinstance(answer, AnswerQuery)
        return answer


def only(instructions: Sequence[Instruction], kind: type[T]) -> T:
    """The only instruction, which is of this kind."""
    assert len(instructions) == 1, instructions
    assert isinstance(instructions[0], kind), instructions
    return instructions[0]


def kinds(instructions: Sequence[Instruction]) -> list[str]:
    """Names of the kinds of instructions."""
    return [type(instruction).__name__ for instruction in instructions]
