"""Workflow code for tests of the run: coroutines over a few futures, executed by a loop of thirty lines.

Lives here: a `Program` without asyncio, so that a test of the run tests the run alone. May not: expectations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from perdure.api.command.v1 import (
    CancelWorkflowExecutionCommandAttributes,
    ContinueAsNewWorkflowExecutionCommandAttributes,
    RequestCancelExternalWorkflowExecutionCommandAttributes,
    ScheduleActivityTaskCommandAttributes,
    ScheduleNexusOperationCommandAttributes,
    SignalExternalWorkflowExecutionCommandAttributes,
    StartChildWorkflowExecutionCommandAttributes,
)
from perdure.api.common.v1 import ActivityType, Memo, SearchAttributes, WorkflowExecution, WorkflowType
from perdure.api.failure.v1 import Failure
from perdure.core.replay import activation as jobs
from perdure.core.replay import instructions as asked
from tests.support.builders import duration, payload, payloads, queue

__all__ = ["CancelWorkflowExecutionCommandAttributes", "Code", "Context", "Future", "Stopped"]


class Stopped(Exception):
    """What a failed future raises in the code."""

    def __init__(self, failure: Failure | None, is_canceled: bool = False) -> None:
        self.failure = failure or Failure()
        self.is_canceled = is_canceled
        super().__init__(self.failure.message)


class Future:
    """Something the code waits for."""

    def __init__(self, seq: int = 0, kind: str = "") -> None:
        self.seq, self.kind = seq, kind
        self.done = False
        self.value: Any = None
        self.error: Stopped | None = None
        self.waiters: list[Coroutine[Any, Any, Any]] = []

    def __await__(self) -> Generator[Future, None, Any]:
        while not self.done:
            yield self
        if self.error is not None:
            raise self.error
        return self.value


class Context:
    """What the code may ask for; `signals` are those that came so far, `log` what the code wrote."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.signals: list[str] = []
        self.log: list[str] = []
        self.cancel_reason: str | None = None
        self.patches: set[str] = set()
        self.asked_patches: dict[str, bool] = {}
        self.counts: dict[str, int] = {}

    # --- plumbing ---

    def ask(self, instruction: asked.Instruction) -> None:
        self.code.instructions.append(instruction)

    def seq(self, kind: str) -> int:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return self.counts[kind]

    def future(self, kind: str, seq: int) -> Future:
        future = self.code.futures[(kind, seq)] = Future(seq, kind)
        return future

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Future:
        """Runs a coroutine beside this one; its end is a future."""
        result = Future()

        async def run() -> None:
            try:
                result.value = await coroutine
            except Stopped as error:
                result.error = error
            self.code.resolve(result)

        self.code.ready.append(run())
        return result

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition holds."""
        while not condition():
            future = Future()
            self.code.conditions.append(future)
            await future

    async def first(self, *futures: Future) -> Future:
        """Waits until one of them is done."""
        await self.until(lambda: any(future.done for future in futures))
        return next(future for future in futures if future.done)

    # --- primitives ---

    def timer(self, seconds: float, source: str | None = None) -> Future:
        seq = self.seq("timer")
        self.ask(asked.StartTimer(seq, round(seconds * 1e9), source=source))
        return self.future("timer", seq)

    def cancel_timer(self, timer: Future) -> None:
        if not timer.done:
            self.ask(asked.CancelTimer(timer.seq))
            timer.error = Stopped(None, True)
            self.code.resolve(timer)

    def activity(
        self, name: str = "work", cancellation: int = 0, source: str | None = None, activity_id: str = ""
    ) -> Future:
        seq = self.seq("activity")
        attributes = ScheduleActivityTaskCommandAttributes(
            activity_id=activity_id or str(seq),
            activity_type=ActivityType(name=name),
            task_queue=queue("queue"),
            input=payloads("input"),
            start_to_close_timeout=duration(60),
        )
        self.ask(asked.ScheduleActivity(seq, attributes, cancellation, source=source))
        return self.future("activity", seq)

    def cancel_activity(self, activity: Future) -> None:
        self.ask(asked.RequestCancelActivity(activity.seq))

    def local(self, name: str = "local", cancellation: int = 0) -> Future:
        seq = self.seq("activity")
        attributes = ScheduleActivityTaskCommandAttributes(
            activity_id=str(seq), activity_type=ActivityType(name=name), start_to_close_timeout=duration(60)
        )
        self.ask(asked.ScheduleLocalActivity(seq, attributes, cancellation=cancellation))
        return self.future("activity", seq)

    def cancel_local(self, activity: Future) -> None:
        self.ask(asked.RequestCancelLocalActivity(activity.seq))

    def child(self, workflow_id: str, name: str = "child", cancellation: int = 2) -> tuple[Future, Future]:
        """Its start and its end."""
        seq = self.seq("child")
        attributes = StartChildWorkflowExecutionCommandAttributes(
            workflow_id=workflow_id,
            workflow_type=WorkflowType(name=name),
            task_queue=queue("queue"),
            namespace="default",
        )
        self.ask(asked.StartChildWorkflow(seq, attributes, cancellation))
        return self.future("child start", seq), self.future("child", seq)

    def cancel_child(self, child: Future, reason: str = "why") -> None:
        self.ask(asked.CancelChildWorkflow(child.seq, reason))

    def signal_other(self, workflow_id: str, name: str = "hello") -> Future:
        seq = self.seq("signal")
        attributes = SignalExternalWorkflowExecutionCommandAttributes(
            execution=WorkflowExecution(workflow_id=workflow_id), signal_name=name
        )
        self.ask(asked.SignalExternalWorkflow(seq, attributes))
        return self.future("signal", seq)

    def cancel_signal(self, signal: Future) -> None:
        self.ask(asked.CancelSignalExternalWorkflow(signal.seq))

    def cancel_other(self, workflow_id: str, reason: str = "why") -> Future:
        seq = self.seq("cancel")
        attributes = RequestCancelExternalWorkflowExecutionCommandAttributes(
            workflow_id=workflow_id, reason=reason
        )
        self.ask(asked.CancelExternalWorkflow(seq, attributes))
        return self.future("cancel", seq)

    def nexus(self, operation: str = "operation", cancellation: int = 0) -> tuple[Future, Future]:
        """Its start and its end."""
        seq = self.seq("nexus")
        attributes = ScheduleNexusOperationCommandAttributes(
            endpoint="endpoint", service="service", operation=operation
        )
        self.ask(asked.ScheduleNexusOperation(seq, attributes, cancellation))
        return self.future("nexus start", seq), self.future("nexus", seq)

    def cancel_nexus(self, operation: Future) -> None:
        self.ask(asked.CancelNexusOperation(operation.seq))

    def patched(self, patch_id: str, deprecated: bool = False) -> bool:
        if patch_id not in self.asked_patches:
            use = not self.code.activation.is_replaying or patch_id in self.patches
            self.asked_patches[patch_id] = use
            if use:
                self.ask(asked.SetPatch(patch_id, deprecated))
        return self.asked_patches[patch_id]

    def upsert(self, **values: str) -> None:
        fields = {name: payload(text) for name, text in values.items()}
        self.ask(asked.UpsertSearchAttributes(SearchAttributes(indexed_fields=fields)))

    def upsert_memo(self, **values: str) -> None:
        self.ask(asked.ModifyMemo(Memo(fields={name: payload(text) for name, text in values.items()})))

    def continue_as_new(self, name: str = "type") -> None:
        attributes = ContinueAsNewWorkflowExecutionCommandAttributes(
            workflow_type=WorkflowType(name=name), task_queue=queue("queue")
        )
        self.ask(asked.ContinueAsNew(attributes))
        self.code.has_ended = True


Main = Callable[[Context], Awaitable[Any]]
Handler = Callable[[Context, str], Awaitable[Any]]


class Code:
    """A `Program` whose code is a coroutine function.

    Attributes:
        activations: every activation so far.
        on_update: coroutine function of an update's handler; None accepts and completes at once.
        validator: called with the update's id; raises Stopped to reject it.
    """

    def __init__(self, main: Main, on_update: Handler | None = None) -> None:
        self.main = main
        self.on_update = on_update
        self.validator: Callable[[str], None] = lambda update_id: None
        self.context = Context(self)
        self.activations: list[jobs.Activation] = []
        self.instructions: list[asked.Instruction] = []
        self.futures: dict[tuple[str, int], Future] = {}
        self.ready: deque[Coroutine[Any, Any, Any]] = deque()
        self.conditions: list[Future] = []
        self.has_ended = False
        self.seed = 0
        self.fail_next: Failure | None = None
        self.used_flags: tuple[int, ...] = ()

    @property
    def activation(self) -> jobs.Activation:
        return self.activations[-1]

    def activate(self, activation: jobs.Activation) -> asked.Answer:
        self.activations.append(activation)
        self.instructions = []
        if self.fail_next is not None:
            return asked.Answer(task_failure=self.fail_next)
        for job in activation.jobs:
            self._apply(job)
        self._run()
        return asked.Answer(self.instructions, used_flags=self.used_flags)

    def resolve(self, future: Future) -> None:
        future.done = True
        self.ready.extend(future.waiters)
        future.waiters = []

    def _run(self) -> None:
        while True:
            while self.ready:
                coroutine = self.ready.popleft()
                try:
                    waits_for = coroutine.send(None)
                except StopIteration:
                    continue
                waits_for.waiters.append(coroutine)
            conditions, self.conditions = self.conditions, []
            if not conditions:
                return
            before = len(self.instructions)
            for future in conditions:
                self.resolve(future)
            snapshot = len(self.ready)
            while self.ready:
                coroutine = self.ready.popleft()
                try:
                    waits_for = coroutine.send(None)
                except StopIteration:
                    continue
                waits_for.waiters.append(coroutine)
            if len(self.instructions) == before and len(self.conditions) >= snapshot:
                return

    async def _top(self, start: jobs.InitializeWorkflow) -> None:
        try:
            result = await self.main(self.context)
        except Stopped as error:
            if not self.has_ended:
                self.has_ended = True
                if error.is_canceled and self.context.cancel_reason is not None:
                    self.instructions.append(asked.CancelWorkflowExecution())
                else:
                    self.instructions.append(asked.FailWorkflow(error.failure))
            return
        if not self.has_ended:
            self.has_ended = True
            self.instructions.append(asked.CompleteWorkflow(payloads(str(result))))

    async def _update(self, job: jobs.DoUpdate) -> None:
        instance = job.protocol_instance_id
        if job.run_validator:
            try:
                self.validator(job.update_id)
            except Stopped as error:
                self.instructions.append(asked.UpdateRejected(instance, error.failure))
                return
        self.instructions.append(asked.UpdateAccepted(instance))
        try:
            result = await self.on_update(self.context, job.name) if self.on_update else job.name
        except Stopped as error:
            self.instructions.append(asked.UpdateCompleted(instance, failure=error.failure))
            return
        self.instructions.append(asked.UpdateCompleted(instance, payloads(str(result))))

    def _apply(self, job: jobs.Job) -> None:
        match job:
            case jobs.InitializeWorkflow():
                self.seed = job.random_seed
                self.ready.append(self._top(job))
            case jobs.UpdateRandomSeed():
                self.seed = job.random_seed
            case jobs.NotifyHasPatch():
                self.context.patches.add(job.patch_id)
            case jobs.SignalWorkflow():
                self.context.signals.append(job.name)
            case jobs.CancelWorkflow():
                self.context.cancel_reason = job.reason
            case jobs.DoUpdate():
                self.ready.append(self._update(job))
            case jobs.FireTimer():
                self._end("timer", job.seq)
            case jobs.ResolveActivity() if job.backoff_s is not None:
                self._end("activity", job.seq, ("backoff", job.backoff_s, job.attempt))
            case jobs.ResolveActivity():
                self._end("activity", job.seq, job.result, job.failure, job.is_canceled)
            case jobs.ResolveChildWorkflowStart():
                value = "already exists" if job.already_exists else job.run_id
                self._end("child start", job.seq, value, job.failure)
            case jobs.ResolveChildWorkflow():
                self._end("child", job.seq, job.result, job.failure, job.is_canceled)
            case jobs.ResolveSignalExternal():
                self._end("signal", job.seq, None, job.failure)
            case jobs.ResolveCancelExternal():
                self._end("cancel", job.seq, None, job.failure)
            case jobs.ResolveNexusOperationStart():
                self._end("nexus start", job.seq, job.operation_token, job.failure)
            case jobs.ResolveNexusOperation():
                self._end("nexus", job.seq, job.result, job.failure, job.is_canceled)
            case jobs.QueryWorkflow():
                answer = payload(",".join(self.context.log))
                self.instructions.append(asked.AnswerQuery(job.query_id, answer))

    def _end(
        self, kind: str, seq: int, value: Any = None, failure: Failure | None = None, canceled: bool = False
    ) -> None:
        future = self.futures[(kind, seq)]
        assert not future.done, f"{kind} {seq} was resolved twice"
        future.value = value
        if failure is not None:
            future.error = Stopped(failure, canceled)
        self.resolve(future)
