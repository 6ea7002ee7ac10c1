"""Child workflows, signals and cancellations for other workflows, from the side of the workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from perdure.api.command.v1 import (
    RequestCancelExternalWorkflowExecutionCommandAttributes,
    SignalExternalWorkflowExecutionCommandAttributes,
    StartChildWorkflowExecutionCommandAttributes,
)
from perdure.api.failure.v1 import Failure
from perdure.common import _arg_or_args, _arg_unset
from perdure.converter import encode_search_attributes
from perdure.core.invariant import present
from perdure.core.replay.activation import (
    ResolveCancelExternal,
    ResolveChildWorkflow,
    ResolveChildWorkflowStart,
    ResolveSignalExternal,
)
from perdure.core.replay.instructions import (
    CancelChildWorkflow,
    CancelExternalWorkflow,
    CancelSignalExternalWorkflow,
    SignalExternalWorkflow,
    StartChildWorkflow,
)
from perdure.exceptions import WorkflowAlreadyStartedError
from perdure.worker.interceptor_workflow import (
    SignalChildWorkflowInput,
    SignalExternalWorkflowInput,
    StartChildWorkflowInput,
)
from perdure.worker.workflow_code.activities import keeps_build_id
from perdure.worker.workflow_code.conversion import Conversion, set_duration
from perdure.worker.workflow_code.loop import InOrder
from perdure.worker.workflow_code.operations import await_operation, resolve
from perdure.workflow import (
    ChildWorkflowHandle,
    EventGroup,
    ExternalWorkflowHandle,
    _attached,
    _Definition,
    _SignalDefinition,
)

if TYPE_CHECKING:
    from perdure.worker.workflow_code.instance import WorkflowInstance


def definition_of(workflow: Any) -> tuple[str, list[type] | None, type | None]:
    """Type, types of the arguments and type of the result of what a user called a workflow.

    Raises:
        TypeError: it is neither a type nor a method, or it is the method of a dynamic workflow.
        ValueError: it is no workflow's `run` method.
    """
    if isinstance(workflow, str):
        return workflow, None, None
    if not callable(workflow):
        raise TypeError("Workflow must be a string or callable")
    definition = _Definition.must_from_run_fn(workflow)
    if not definition.name:
        raise TypeError("Cannot invoke dynamic workflow explicitly")
    return definition.name, definition.arg_types, definition.ret_type


class Children:
    """The children that a workflow has started."""

    __slots__ = ("_instance", "_pending")

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._pending: dict[int, _ChildTask] = {}

    async def start(self, input: StartChildWorkflowInput) -> ChildWorkflowHandle[Any, Any]:
        """Asks for a child and waits until it has started, or not."""
        self._instance.recorder.check_writable("start child workflow")
        task = _ChildTask(self._instance, input)
        self._pending[task.seq] = task
        await await_operation(
            self._instance, task.started, task.request_cancel, is_raised_on_workflow_cancellation=True
        )
        return task

    def resolve_start(self, job: ResolveChildWorkflowStart) -> None:
        """A child has started, or not."""
        task = present(self._pending.get(job.seq), "a child that nobody waits for has started", seq=job.seq)
        if task.resolve_start(job):
            del self._pending[job.seq]

    def resolve(self, job: ResolveChildWorkflow) -> None:
        """A child has ended."""
        task = self._pending.pop(job.seq, None)
        present(task, "a child that nobody waits for has ended", seq=job.seq).resolve(job)


class _ChildTask(InOrder, ChildWorkflowHandle[Any, Any]):
    """The task that waits for one child."""

    def __init__(self, instance: WorkflowInstance, input: StartChildWorkflowInput) -> None:
        self.seq = instance.recorder.next_seq("child_workflow")
        self._instance = instance
        self._input = input
        self._run_id = "<unknown>"
        self._conversion: Conversion = instance.conversions.for_workflow(input.id)
        self.started: asyncio.Future[None] = asyncio.Future(loop=instance.loop)
        self._outcome: asyncio.Future[Any] = asyncio.Future(loop=instance.loop)
        instance.recorder.add(
            StartChildWorkflow(
                self.seq,
                self._new_attributes(),
                int(input.cancellation_type),
                self._conversion.metadata(input.static_summary, input.static_details),
                instance.recorder.source(),
            )
        )
        self.hash_in_order = instance.loop.next_hash()
        super().__init__(
            await_operation(instance, self._outcome, self.request_cancel),
            loop=instance.loop,
            name=instance.loop.task_name(f"child: {input.workflow}"),
        )
        instance.loop.keep(self)

    @property
    def id(self) -> str:
        return self._input.id

    @property
    def first_execution_run_id(self) -> str | None:
        return self._run_id

    async def signal(
        self,
        signal: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = (),
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None:
        self._instance.recorder.check_writable("signal child handle")
        await self._instance.outbound.signal_child_workflow(
            SignalChildWorkflowInput(
                signal=_SignalDefinition.must_name_from_fn_or_str(signal),
                args=_arg_or_args(arg, args),
                child_workflow_id=self._input.id,
                headers={},
                event_groups=event_groups,
            )
        )

    def request_cancel(self, error: asyncio.CancelledError) -> None:
        """Asks for the child's cancellation; what was said to `Task.cancel` is the reason."""
        reason = error.args[0] if error.args and isinstance(error.args[0], str) else ""
        self._instance.recorder.add(CancelChildWorkflow(self.seq, reason))

    def resolve_start(self, job: ResolveChildWorkflowStart) -> bool:
        """The child has started, or not. Whether it is over."""
        if job.already_exists:
            self._fail(WorkflowAlreadyStartedError(job.workflow_id, job.workflow_type))
        elif job.failure is not None:
            self._fail(self._conversion.from_failure(job.failure))
        else:
            self._run_id = job.run_id
            self.started.set_result(None)
            return False
        return True

    def resolve(self, job: ResolveChildWorkflow) -> None:
        """The child has ended."""
        if job.failure is not None:
            self._fail(self._conversion.from_failure(job.failure))
        else:
            self._outcome.set_result(self._conversion.from_result(job.result, self._input.ret_type))

    def _fail(self, error: BaseException) -> None:
        if self.started.done():
            resolve(self._outcome, error)
            return
        resolve(self.started, error)
        self._outcome.set_result(None)

    def _new_attributes(self) -> StartChildWorkflowExecutionCommandAttributes:
        given, info = self._input, self._instance.info
        queue = given.task_queue or info.task_queue
        attributes = StartChildWorkflowExecutionCommandAttributes(
            namespace=info.namespace,
            workflow_id=given.id,
            input=self._conversion.to_payloads(given.args),
            parent_close_policy=int(given.parent_close_policy),  # type: ignore[arg-type]
            workflow_id_reuse_policy=int(given.id_reuse_policy),  # type: ignore[arg-type]
            cron_schedule=given.cron_schedule,
            inherit_build_id=keeps_build_id(given.versioning_intent, queue, info.task_queue),
        )
        attributes.workflow_type.name = given.workflow
        attributes.task_queue.name = queue
        set_duration(attributes.workflow_execution_timeout, given.execution_timeout)
        set_duration(attributes.workflow_run_timeout, given.run_timeout)
        set_duration(attributes.workflow_task_timeout, given.task_timeout)
        if given.retry_policy:
            given.retry_policy.apply_to_proto(attributes.retry_policy)
        for name, payload in given.headers.items():
            attributes.header.fields[name].CopyFrom(payload)
        for name, value in (given.memo or {}).items():
            attributes.memo.fields[name].CopyFrom(self._conversion.to_result(value))
        if given.search_attributes:
            encode_search_attributes(given.search_attributes, attributes.search_attributes)
        if given.priority is not None:
            attributes.priority.CopyFrom(given.priority._to_proto())
        if given.versioning_override is not None:
            attributes.versioning_override.CopyFrom(given.versioning_override._to_proto())
        return attributes


class Externals:
    """Signals and cancellations that a workflow has sent to other workflows."""

    __slots__ = ("_cancels", "_instance", "_signals")

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._signals: dict[int, tuple[asyncio.Future[None], str]] = {}
        self._cancels: dict[int, tuple[asyncio.Future[None], str]] = {}

    async def signal_child(self, input: SignalChildWorkflowInput) -> None:
        """Signals a child."""
        attributes = SignalExternalWorkflowExecutionCommandAttributes(
            namespace=self._instance.info.namespace, child_workflow_only=True
        )
        attributes.execution.workflow_id = input.child_workflow_id
        await self._signal(input, attributes, self._instance.info.namespace)

    async def signal_external(self, input: SignalExternalWorkflowInput) -> None:
        """Signals another workflow."""
        attributes = SignalExternalWorkflowExecutionCommandAttributes(namespace=input.namespace)
        attributes.execution.workflow_id = input.workflow_id
        attributes.execution.run_id = input.workflow_run_id or ""
        await self._signal(input, attributes, input.namespace)

    async def _signal(
        self,
        input: SignalChildWorkflowInput | SignalExternalWorkflowInput,
        attributes: SignalExternalWorkflowExecutionCommandAttributes,
        namespace: str,
    ) -> None:
        instance, workflow_id = self._instance, attributes.execution.workflow_id
        payloads = instance.conversions.for_workflow(workflow_id, namespace).to_payloads(input.args)
        attributes.signal_name = input.signal
        if payloads is not None:
            attributes.input.CopyFrom(payloads)
        for name, payload in input.headers.items():
            attributes.header.fields[name].CopyFrom(payload)
        seq = instance.recorder.next_seq("external_signal")
        instance.recorder.add(SignalExternalWorkflow(seq, attributes, instance.recorder.source()))
        delivered: asyncio.Future[None] = asyncio.Future(loop=instance.loop)
        self._signals[seq] = (delivered, workflow_id)
        await await_operation(
            instance, delivered, lambda _: instance.recorder.add(CancelSignalExternalWorkflow(seq))
        )

    async def cancel(self, workflow_id: str, run_id: str | None, reason: str) -> None:
        """Asks another workflow to cancel."""
        instance = self._instance
        attributes = RequestCancelExternalWorkflowExecutionCommandAttributes(
            namespace=instance.info.namespace, workflow_id=workflow_id, run_id=run_id or "", reason=reason
        )
        seq = instance.recorder.next_seq("external_cancel")
        instance.recorder.add(CancelExternalWorkflow(seq, attributes, instance.recorder.source()))
        delivered: asyncio.Future[None] = asyncio.Future(loop=instance.loop)
        self._cancels[seq] = (delivered, workflow_id)
        await delivered

    def resolve_signal(self, job: ResolveSignalExternal) -> None:
        """A signal was delivered, or not."""
        self._resolve(self._signals, job.seq, job.failure)

    def resolve_cancel(self, job: ResolveCancelExternal) -> None:
        """A cancellation request was delivered, or not."""
        self._resolve(self._cancels, job.seq, job.failure)

    def _resolve(
        self, pending: dict[int, tuple[asyncio.Future[None], str]], seq: int, failure: Failure | None
    ) -> None:
        delivered, workflow_id = pending.pop(seq)
        if delivered.done():
            return
        if failure is None:
            delivered.set_result(None)
        else:
            resolve(delivered, self._instance.conversions.for_workflow(workflow_id).from_failure(failure))


class ExternalHandle(ExternalWorkflowHandle[Any]):
    """A workflow known by its id."""

    def __init__(self, instance: WorkflowInstance, id: str, run_id: str | None) -> None:
        self._instance = instance
        self._id = id
        self._run_id = run_id

    @property
    def id(self) -> str:
        return self._id

    @property
    def run_id(self) -> str | None:
        return self._run_id

    async def signal(
        self,
        signal: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = (),
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None:
        self._instance.recorder.check_writable("signal external handle")
        await self._instance.outbound.signal_external_workflow(
            SignalExternalWorkflowInput(
                signal=_SignalDefinition.must_name_from_fn_or_str(signal),
                args=_arg_or_args(arg, args),
                namespace=self._instance.info.namespace,
                workflow_id=self._id,
                workflow_run_id=self._run_id,
                headers={},
                event_groups=event_groups,
            )
        )

    async def cancel(
        self,
        *,
        reason: str = "",
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None:
        self._instance.recorder.check_writable("cancel external handle")
        with _attached(event_groups):
            await self._instance.externals.cancel(self._id, self._run_id, reason)
