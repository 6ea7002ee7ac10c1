"""One workflow under execution: applies the jobs of an activation, runs the code, and collects what it asks for.

Each kind of thing the code can ask for has its own module; the instance holds them together and knows the order in
which things happen. That order is part of the contract with histories: official workers wrote many of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from perdure.api.common.v1 import Payloads
from perdure.api.failure.v1 import ApplicationFailureInfo, Failure
from perdure.api.sdk.v1 import UserMetadata
from perdure.common import VersioningBehavior
from perdure.core.invariant import present
from perdure.core.replay import activation as jobs
from perdure.core.replay.activation import Activation, InitializeWorkflow, Job
from perdure.core.replay.instructions import (
    Answer,
    CancelTimer,
    CancelWorkflowExecution,
    CompleteWorkflow,
    FailWorkflow,
    StartTimer,
)
from perdure.exceptions import CancelledError, FailureError, is_cancelled_exception
from perdure.worker.interceptor_workflow import (
    ExecuteWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowOutboundInterceptor,
)
from perdure.worker.workflow_code import completion, diagnostics, generations, guards
from perdure.worker.workflow_code.activities import Activities
from perdure.worker.workflow_code.children import Children, Externals
from perdure.worker.workflow_code.conversion import Conversions
from perdure.worker.workflow_code.handlers import Handlers, raw_values
from perdure.worker.workflow_code.interceptors import InnermostInbound, InnermostOutbound
from perdure.worker.workflow_code.logic_flags import LogicFlag
from perdure.worker.workflow_code.loop import WorkflowLoop
from perdure.worker.workflow_code.nexus import NexusOperations
from perdure.worker.workflow_code.properties import MemoAccess, Patches, Randomness
from perdure.worker.workflow_code.recorder import Recorder
from perdure.worker.workflow_code.run_info import new_info
from perdure.worker.workflow_code.runtime import WorkflowRuntime
from perdure.worker.workflow_code.settings import WorkflowCodeSettings
from perdure.worker.workflow_code.waiting import Conditions
from perdure.workflow import DynamicWorkflowConfig, _Definition, _Runtime
from perdure.workflow._definition import INIT_ATTRIBUTE

_logger = logging.getLogger(__name__)

_PATCHES, _ARRIVALS, _OTHERS, _QUERIES = range(4)
_SET_OF: dict[type, int] = {
    jobs.NotifyHasPatch: _PATCHES,
    jobs.SignalWorkflow: _ARRIVALS,
    jobs.DoUpdate: _ARRIVALS,
    jobs.QueryWorkflow: _QUERIES,
}
_NOTHING = Activation(now_ns=0, is_replaying=False, history_length=0, jobs=())
_MAX_EVICTION_ROUNDS = 10
_KEPT = ("activation", "info", "logger_details", "recorder", "settings")
"""What an instance keeps when it is thrown away."""


class WorkflowInstance:
    """One workflow under execution.

    Attributes:
        settings: what the worker lends.
        info: what the run knows about itself.
        started: the event that started it.
        activation: the current one; between activations the last one.
        object: of the workflow class; None before the first code runs.
        cancel_reason: why the run was asked to cancel; None if it was not.
        current_details: what the code says it is at.
        is_single_batch: all jobs of this activation are applied before any code runs.
        inbound, outbound: the outer ends of the interceptor chains.
    """

    inbound: WorkflowInboundInterceptor
    outbound: WorkflowOutboundInterceptor

    def __init__(
        self,
        settings: WorkflowCodeSettings,
        definition: _Definition,
        run_id: str,
        job: InitializeWorkflow,
        first: Activation,
    ) -> None:
        self.settings = settings
        self.activation = first
        self.started = job.attributes
        self.info = new_info(
            job,
            run_id=run_id,
            namespace=settings.namespace,
            task_queue=settings.task_queue,
            first_task_ns=first.now_ns,
        )
        self.logger_details: Mapping[str, Any] = self.info._logger_details()
        self._definition = definition
        self._is_guarded = definition.cls in settings.guarded
        self.object: Any = None
        self.cancel_reason: str | None = None
        self.current_details = ""
        self.is_single_batch = False
        self._input: ExecuteWorkflowInput | None = None
        self._primary: asyncio.Task[None] | None = None
        self._is_cancel_pending = False
        self._used_flags: set[int] = set()
        self._versioning_behavior = VersioningBehavior.UNSPECIFIED
        self._failure_types: tuple[type[BaseException], ...] = self._all_failure_types(
            definition.failure_exception_types
        )
        self.recorder = Recorder()
        info = self.info
        self.loop = WorkflowLoop(  # type: ignore[abstract] # the others are refused at run time
            self,
            f" (workflow: {info.workflow_type}, id: {info.workflow_id}, run: {info.run_id})",
            job.random_seed,
        )
        self.conversions = Conversions(
            settings.payload_converter,
            settings.failure_converter,
            info.namespace,
            info.workflow_id,
            info.workflow_type,
            self.is_failure_exception,
        )
        self.randomness = Randomness(job.random_seed)
        self.conditions = Conditions(self)
        self.activities = Activities(self)
        self.handlers = Handlers(
            self,
            definition.signals,
            {**definition.queries, **diagnostics.QUERIES},
            definition.updates,
        )
        self.runtime = WorkflowRuntime(self)
        _Runtime.set_on_loop(self.loop, self.runtime)
        before = self.loop.enter()
        try:
            self._chain_interceptors()
        finally:
            self.loop.leave(before)

    # Most runs have none of these.

    @cached_property
    def memo(self) -> MemoAccess:
        """The memo."""
        return MemoAccess(self)

    @cached_property
    def patches(self) -> Patches:
        """The patches."""
        return Patches(self, self.settings.patch_activation_callback)

    @cached_property
    def children(self) -> Children:
        """The child workflows."""
        return Children(self)

    @cached_property
    def externals(self) -> Externals:
        """What is asked of other workflows."""
        return Externals(self)

    @cached_property
    def nexus_operations(self) -> NexusOperations:
        """The Nexus operations."""
        return NexusOperations(self)

    def _all_failure_types(self, own: Sequence[type[BaseException]]) -> tuple[type[BaseException], ...]:
        return (FailureError, asyncio.TimeoutError, *own, *self.settings.failure_exception_types)

    def _chain_interceptors(self) -> None:
        innermost: WorkflowInboundInterceptor = InnermostInbound(self)
        self.inbound = innermost
        self.outbound = InnermostOutbound(self)
        for interceptor_class in reversed(list(self.settings.interceptor_classes)):
            self.inbound = interceptor_class(self.inbound)
        self.inbound.init(InnermostOutbound(self))

    # What the parts ask

    @property
    def is_replaying(self) -> bool:
        """History already says what the code does; an eviction counts too, so that it leaves no logs and metrics."""
        return self.activation.is_replaying or self.recorder.is_evicting

    def now_ns(self) -> int:
        """Workflow time."""
        return self.activation.now_ns

    def check_writable(self, action: str, *, is_allowed_while_evicting: bool = False) -> None:
        """See the recorder's."""
        recorder = self.recorder
        if recorder.is_read_only or recorder.is_evicting:
            recorder.check_writable(action, is_allowed_while_evicting=is_allowed_while_evicting)

    def start_timer(self, delay_s: float, metadata: UserMetadata | None) -> int:
        """Asks for a timer; its number."""
        recorder = self.recorder
        seq = recorder.next_seq("timer")
        recorder.add(StartTimer(seq, int(delay_s * 1e9), metadata, recorder.source()))
        return seq

    def cancel_timer(self, seq: int) -> None:
        """Takes the request for a timer back."""
        self.recorder.add(CancelTimer(seq))

    def is_failure_exception(self, error: BaseException) -> bool:
        """Whether it fails the workflow rather than the workflow task."""
        return isinstance(error, self._failure_types)

    def may_use_on_first_run(self, flag: LogicFlag) -> bool:
        """Whether to behave as a flag says that every new execution uses; a replay obeys history."""
        if self.activation.is_replaying and flag not in self.activation.available_flags:
            return False
        self._used_flags.add(flag)
        return True

    def generation(self) -> LogicFlag:
        """Whose `asyncio.wait_for` and `asyncio.gather` the run goes by: what history says, else this Python's."""
        for flag in (LogicFlag.ASYNCIO_OF_3_11, LogicFlag.ASYNCIO_OF_3_12):
            if flag in self.activation.available_flags:
                return flag
        # Histories of the official workers do not say; as there, it is what the worker runs on.
        if not self.activation.is_replaying:
            self._used_flags.add(generations.NATIVE)
        return generations.NATIVE

    def _is_flag_enabled(self, flag: LogicFlag) -> bool:
        if flag in self.activation.available_flags:
            return True
        if self.activation.is_replaying or flag not in self.settings.logic_flags:
            return False
        self._used_flags.add(flag)
        return True

    # Activations

    def activate(self, activation: Activation) -> Answer:
        """Applies the jobs and runs the code until it waits; see `Program`."""
        recorder = self.recorder
        self.activation = activation
        recorder.instructions = []
        recorder.markers = {}
        self.loop.failure = None
        recorder.tracks_sources = activation.is_replaying or self.settings.always_tracks_sources
        self._used_flags = set()
        self.is_single_batch = self._is_flag_enabled(LogicFlag.SINGLE_BATCH)
        task_error: BaseException | None = None
        try:
            before = self.loop.enter()
            guards.enter(self.runtime if self._is_guarded else None)
            try:
                self._run_jobs(activation.jobs)
            finally:
                guards.leave()
                self.loop.leave(before)
        except Exception as error:  # whatever the user's code and converters raise
            task_error = self._fail(error)
        answer = Answer(
            recorder.instructions,
            versioning_behavior=int(self._versioning_behavior),
            used_flags=self._used_flags,
            markers=recorder.markers,
        )
        if task_error is not None:
            answer.task_failure, answer.task_error = self._task_failure(task_error), task_error
        elif any(map(completion.is_closing, recorder.instructions)):
            self._warn_of_unfinished(answer)
        return answer

    def _warn_of_unfinished(self, answer: Answer) -> None:
        try:
            completion.warn_of_unfinished(self.handlers)
        except Warning as error:
            # The process makes errors of warnings.
            answer.task_failure, answer.task_error = self._task_failure(error), error

    def _fail(self, error: Exception) -> BaseException | None:
        """Ends the workflow with an error that the code did not raise in its own tasks; what the task fails with."""
        if not self.is_failure_exception(error):
            return error
        try:
            self._fail_workflow(error)
        except Exception as conversion_error:  # whatever a custom converter raises
            return conversion_error
        return None

    def _task_failure(self, error: BaseException) -> Failure:
        try:
            return self.conversions.workflow.to_failure(error)
        except Exception as conversion_error:  # whatever a custom converter raises
            return unconverted(conversion_error)

    def _run_jobs(self, all_jobs: Sequence[Job]) -> None:
        sets: tuple[list[Job], ...] = ([], [], [], [])
        for job in all_jobs:
            sets[_SET_OF.get(type(job), _OTHERS)].append(job)
            if isinstance(job, InitializeWorkflow):
                self._input = self._new_input()
        if self.is_single_batch:
            for job_set in sets:
                self._apply(job_set)
            self._run_code(checks_conditions=bool(sets[_ARRIVALS] or sets[_OTHERS]))
        else:
            for index, job_set in enumerate(sets):
                if job_set:
                    self._apply(job_set)
                    self._run_code(checks_conditions=index in (_ARRIVALS, _OTHERS))
        if sets[_QUERIES]:
            self.handlers.end_queries()

    def _apply(self, job_set: Sequence[Any]) -> None:
        for job in job_set:
            _APPLY[type(job)](self, job)

    def _run_code(self, *, checks_conditions: bool) -> None:
        if self.object is None and not self.recorder.is_evicting:
            self.object = self._new_object()
        # Only here: outside of steps the stack leads to whoever runs the worker.
        self.loop.find_source = self.recorder.source if self.recorder.tracks_sources else None
        try:
            self.loop.run_ready(self.conditions.check if checks_conditions else None)
        finally:
            self.loop.find_source = None

    # The workflow's own code

    def _new_input(self) -> ExecuteWorkflowInput:
        payloads = self.started.input.payloads
        if self._definition.name:
            args = self.conversions.workflow.from_payloads(payloads, self._definition.arg_types)
        else:
            args = [raw_values(payloads)]
        return ExecuteWorkflowInput(
            type=self._definition.cls, run_fn=self._definition.run_fn, args=args, headers=self.info.headers
        )

    def _new_object(self) -> Any:
        definition = self._definition
        cls: Any = definition.cls
        takes_arguments = hasattr(cls.__init__, INIT_ATTRIBUTE)
        made = definition.cls(*self._input.args) if takes_arguments and self._input else definition.cls()
        self._versioning_behavior = definition.versioning_behavior or VersioningBehavior.UNSPECIFIED
        if definition.name is None and definition.dynamic_config_fn is not None:
            with self.recorder.read_only(is_query_or_validator=False):
                config: DynamicWorkflowConfig | None = definition.dynamic_config_fn(made)
            if config is not None and config.failure_exception_types is not None:
                self._failure_types = self._all_failure_types(config.failure_exception_types)
            if config is not None and config.versioning_behavior != VersioningBehavior.UNSPECIFIED:
                self._versioning_behavior = config.versioning_behavior
        return made

    async def _run_workflow(self, input: ExecuteWorkflowInput) -> None:
        outcome = await self.inbound.execute_workflow(input)
        result = Payloads(payloads=[self.conversions.workflow.to_result(outcome)])
        self.recorder.add(CompleteWorkflow(result, self.recorder.source()))

    async def run_top_level(self, code: Callable[[], Awaitable[None]]) -> None:
        """Runs the workflow's main code or a signal handler: what it raises ends the workflow or the task.

        Args:
            code: called with the task's first step, which a task that is cancelled at once never has.
        """
        try:
            await code()
        except completion.ContinueAsNewRequest as request:
            self.recorder.add_marked(completion.continue_as_new(self, request.input), request.markers)
        except (Exception, asyncio.CancelledError) as error:  # whatever the user's code raises ends it
            if not self.recorder.is_evicting:
                self._end_with(error)

    def _end_with(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            error = CancelledError(str(error))
        if self.cancel_reason is not None and is_cancelled_exception(error):
            self.recorder.add(CancelWorkflowExecution())
        elif self.is_failure_exception(error):
            self._fail_workflow(error)
        else:
            self.loop.failure = error

    def _fail_workflow(self, error: BaseException) -> None:
        try:
            failure = self.conversions.workflow.to_failure(error)
        except Exception as conversion_error:  # whatever a custom converter raises
            raise ValueError("Failed converting workflow exception") from conversion_error
        self.recorder.add(FailWorkflow(failure))

    def _initialize(self, job: InitializeWorkflow) -> None:
        given = present(self._input, "the code starts before its arguments are read")
        self._primary = self.loop.create_task(
            self.run_top_level(partial(self._run_workflow, given)), name="run"
        )
        if self._is_cancel_pending:
            self._is_cancel_pending = False
            self.loop.call_soon(self._primary.cancel)

    def _cancel(self, job: jobs.CancelWorkflow) -> None:
        self.cancel_reason = job.reason
        if self._primary is not None:
            # Not at once: a task that has not had its first step would never hear of it.
            self.loop.call_soon(self._primary.cancel)
        elif self.is_single_batch:
            self._is_cancel_pending = True

    # The end

    def evict(self) -> None:
        """Throws the run away: every task is cancelled and ends, nothing is recorded, no coroutine is left behind.

        A coroutine that were left to the garbage collector would run its `finally` blocks in any thread, inside
        whatever loop runs there.
        """
        self.recorder.is_evicting = True
        self.loop.is_silent = True
        before = self.loop.enter()
        guards.enter(self.runtime if self._is_guarded else None)
        try:
            self._end_tasks()
        finally:
            guards.leave()
            self.loop.leave(before)
            self._forget()

    def _forget(self) -> None:
        """Lets go of the parts, which all know this instance: what is left over needs no garbage collector.

        A finished run would be some ninety objects in cycles, and collecting them the largest single cost of a busy
        worker. What code that outlives its run may still ask is who it was, and whether it may change anything.
        """
        self.loop.discard()
        kept = {name: self.__dict__[name] for name in _KEPT}
        self.__dict__.clear()
        self.__dict__.update(kept)

    def _end_tasks(self) -> None:
        for _ in range(_MAX_EVICTION_ROUNDS):
            tasks = self.loop.unfinished_tasks()
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self.loop.run_ready(None)
        for task in self.loop.unfinished_tasks():
            # The beginning is what users of the official workers look for.
            _logger.warning(
                "Timed out running eviction job for run ID %s: task %s does not end when it is cancelled, and is "
                "closed. Let CancelledError through.",
                self.info.run_id,
                task.get_name(),
            )
            _close(task)


def unconverted(conversion_error: Exception) -> Failure:
    """What stands for an error that the failure converter could not convert."""
    return Failure(
        message=f"Failed converting activation exception: {conversion_error}",
        application_failure_info=ApplicationFailureInfo(),
    )


def _close(task: asyncio.Task[Any]) -> None:
    """Ends a task that swallows every cancellation."""
    coroutine = task.get_coro()
    try:
        if coroutine is not None:
            coroutine.close()
    except (
        Exception,
        asyncio.CancelledError,
    ) as error:  # user code refuses to end: there is nothing more to do
        _logger.warning("A task of an evicted workflow cannot be ended: %s: %r", task.get_name(), error)


_APPLY: dict[type, Callable[[WorkflowInstance, Any], None]] = {
    jobs.InitializeWorkflow: WorkflowInstance._initialize,
    jobs.UpdateRandomSeed: lambda instance, job: instance.randomness.reseed(job.random_seed),
    jobs.NotifyHasPatch: lambda instance, job: instance.patches.note(job.patch_id),
    jobs.SignalWorkflow: lambda instance, job: instance.handlers.take_signal(job),
    jobs.DoUpdate: lambda instance, job: instance.handlers.take_update(job),
    jobs.CancelWorkflow: WorkflowInstance._cancel,
    jobs.FireTimer: lambda instance, job: instance.loop.fire_timer(job.seq),
    jobs.ResolveActivity: lambda instance, job: instance.activities.resolve(job),
    jobs.ResolveChildWorkflowStart: lambda instance, job: instance.children.resolve_start(job),
    jobs.ResolveChildWorkflow: lambda instance, job: instance.children.resolve(job),
    jobs.ResolveSignalExternal: lambda instance, job: instance.externals.resolve_signal(job),
    jobs.ResolveCancelExternal: lambda instance, job: instance.externals.resolve_cancel(job),
    jobs.ResolveNexusOperationStart: lambda instance, job: instance.nexus_operations.resolve_start(job),
    jobs.ResolveNexusOperation: lambda instance, job: instance.nexus_operations.resolve(job),
    jobs.QueryWorkflow: lambda instance, job: instance.handlers.take_query(job),
}
