"""Nexus operations, from the side of the workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from perdure.api.command.v1 import ScheduleNexusOperationCommandAttributes
from perdure.api.common.v1 import Payloads
from perdure.core.invariant import present
from perdure.core.replay.activation import ResolveNexusOperation, ResolveNexusOperationStart
from perdure.core.replay.instructions import CancelNexusOperation, ScheduleNexusOperation
from perdure.worker.interceptor_workflow import StartNexusOperationInput
from perdure.worker.workflow_code.conversion import set_duration
from perdure.worker.workflow_code.operations import await_operation, resolve
from perdure.workflow import _SYSTEM_ENDPOINT, NexusOperationHandle

if TYPE_CHECKING:
    from perdure.worker.workflow_code.instance import WorkflowInstance


class NexusOperations:
    """The Nexus operations that a workflow has started."""

    __slots__ = ("_instance", "_pending")

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._pending: dict[int, _Operation] = {}

    async def start(self, input: StartNexusOperationInput[Any, Any]) -> NexusOperationHandle[Any]:
        """Asks for an operation and waits until it has started, or not."""
        operation = _Operation(self._instance, input)
        self._pending[operation.seq] = operation
        await await_operation(
            self._instance,
            operation.started,
            lambda _: operation.request_cancel(),
            is_raised_on_workflow_cancellation=True,
        )
        return operation

    def resolve_start(self, job: ResolveNexusOperationStart) -> None:
        """An operation has started, or not."""
        operation = present(
            self._pending.get(job.seq), "a Nexus operation that nobody waits for has started", seq=job.seq
        )
        if job.failure is None:
            operation.started.set_result(job.operation_token)
        else:
            del self._pending[job.seq]
            operation.fail(job)

    def resolve(self, job: ResolveNexusOperation) -> None:
        """An operation has ended; it may have been given up before."""
        operation = self._pending.pop(job.seq, None)
        if operation is None:
            return
        if job.failure is not None:
            operation.fail(job)
        else:
            operation.complete(job)


class _Operation(NexusOperationHandle[Any]):
    """One started operation."""

    def __init__(self, instance: WorkflowInstance, input: StartNexusOperationInput[Any, Any]) -> None:
        self._instance = instance
        self._input = input
        self.seq = instance.recorder.next_seq("nexus_operation")
        conversions = instance.conversions
        if input.endpoint == _SYSTEM_ENDPOINT:
            self._conversion, self._values = conversions.plain, conversions.server
        else:
            self._conversion = self._values = conversions.for_operation(
                input.endpoint, input.service, input.operation_name
            )
        self.started: asyncio.Future[str | None] = instance.loop.create_future()
        self._result: asyncio.Future[Any] = instance.loop.create_future()
        instance.recorder.add(
            ScheduleNexusOperation(
                self.seq,
                self._new_attributes(),
                int(input.cancellation_type),
                self._conversion.metadata(input.summary),
                instance.recorder.source(),
            )
        )
        self._task: asyncio.Task[Any] = instance.loop.create_task(
            await_operation(instance, self._result, lambda _: self.request_cancel()),
            name=f"nexus operation: {input.operation_name}",
        )

    @property
    def operation_token(self) -> str | None:
        if not self.started.done() or self.started.exception() is not None:
            return None
        return self.started.result()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._task.__await__()

    def cancel(self) -> bool:
        return self._task.cancel()

    def request_cancel(self) -> None:
        """Asks for the operation's cancellation."""
        self._instance.recorder.add(CancelNexusOperation(self.seq))

    def complete(self, job: ResolveNexusOperation) -> None:
        """The operation has ended with a result."""
        payloads = Payloads(payloads=[job.result]) if job.result is not None else None
        self._result.set_result(self._values.from_result(payloads, self._input.output_type))

    def fail(self, job: ResolveNexusOperation | ResolveNexusOperationStart) -> None:
        """The operation has failed, maybe to start."""
        if job.failure is None:
            return
        error = self._conversion.from_failure(job.failure)
        if self.started.done():
            resolve(self._result, error)
        else:
            resolve(self.started, error)
            self._result.set_result(None)

    def _new_attributes(self) -> ScheduleNexusOperationCommandAttributes:
        given = self._input
        attributes = ScheduleNexusOperationCommandAttributes(
            endpoint=given.endpoint,
            service=given.service,
            operation=given.operation_name,
            input=self._values.to_result(given.input),
            nexus_header=given.headers or {},
        )
        set_duration(attributes.schedule_to_close_timeout, given.schedule_to_close_timeout)
        if given.schedule_to_start_timeout:
            set_duration(attributes.schedule_to_start_timeout, given.schedule_to_start_timeout)
        if given.start_to_close_timeout:
            set_duration(attributes.start_to_close_timeout, given.start_to_close_timeout)
        return attributes
