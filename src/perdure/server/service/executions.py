"""RPCs on workflow executions: start, signal-with-start, signal, cancel, terminate, delete.

Reading them (describe, history, query) is in the modules beside this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from perdure.api.common.v1 import Link
from perdure.api.enums.v1 import EventType, WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from perdure.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    DeleteWorkflowExecutionResponse,
    RequestCancelWorkflowExecutionRequest,
    RequestCancelWorkflowExecutionResponse,
    SignalWithStartWorkflowExecutionRequest,
    SignalWithStartWorkflowExecutionResponse,
    SignalWorkflowExecutionRequest,
    SignalWorkflowExecutionResponse,
    StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
    TerminateWorkflowExecutionRequest,
    TerminateWorkflowExecutionResponse,
)
from perdure.core.errors import InvalidArgumentError, NotFoundError, UnavailableError, UnimplementedError
from perdure.core.run import (
    activity,
    attributes,
    cancellation,
    cron,
    lifecycle,
    priorities,
    retry,
    signal,
    workflow_task,
)
from perdure.core.run.limits import Limits
from perdure.core.run.protos import cap_duration, duration_ns, set_duration
from perdure.core.run.records import RunKey
from perdure.core.run.state import RunState
from perdure.core.run.transition import Transition
from perdure.server.callback_addresses import AddressRule
from perdure.server.engine.engine import Compute, Engine, RunNotFoundError
from perdure.server.engine.histories import Histories, not_found
from perdure.server.engine.starts import NewRun, Started, Starts
from perdure.server.namespaces import STARTABLE_STATES, Namespace
from perdure.server.service import callback_checks, checks
from perdure.server.service.call import Call
from perdure.server.service.task_responses import TaskResponses
from perdure.server.service.worker_versions import check_override

_STARTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_STARTED")
_OPTIONS_UPDATED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED")
_SIGNALED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED")
_ALLOW = WorkflowIdReusePolicy.Value("WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE")
_REJECT = WorkflowIdReusePolicy.Value("WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE")
_TERMINATE_IF_RUNNING = WorkflowIdReusePolicy.Value("WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING")
_FAIL = WorkflowIdConflictPolicy.Value("WORKFLOW_ID_CONFLICT_POLICY_FAIL")
_USE_EXISTING = WorkflowIdConflictPolicy.Value("WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING")
_TERMINATE_EXISTING = WorkflowIdConflictPolicy.Value("WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING")
_DEFAULT_TERMINATE_REASON = "terminated by user via frontend"
_DEFAULT_TERMINATE_IDENTITY = "frontend-service"
_NamesRun = (
    RequestCancelWorkflowExecutionRequest | TerminateWorkflowExecutionRequest | DeleteWorkflowExecutionRequest
)


class Executions:
    """Handlers of the RPCs that change workflow executions."""

    def __init__(
        self,
        engine: Engine,
        starts: Starts,
        histories: Histories,
        task_responses: TaskResponses,
        callback_rules: Sequence[AddressRule] = (),
    ) -> None:
        self._engine = engine
        self._namespaces = engine.namespaces
        self._limits: Limits = engine.limits.run
        self._starts = starts
        self._histories = histories
        self._task_responses = task_responses
        self.callback_rules = callback_rules

    # --- start ---

    async def start_workflow_execution(
        self, request: StartWorkflowExecutionRequest, call: Call
    ) -> StartWorkflowExecutionResponse:
        """StartWorkflowExecution: source workflowservice.v1."""
        namespace = self._namespaces.get(request.namespace, STARTABLE_STATES)
        self.prepare_start(request, namespace)
        started = await self._starts.start(namespace, request)
        response = start_response(namespace, started, request.request_id)
        if started.eager_task is not None:
            try:
                task = await self._task_responses.workflow_task(started.eager_task)
            except (asyncio.CancelledError, UnavailableError) as error:
                self._engine.matching.give_back(started.eager_task)
                if not isinstance(error, UnavailableError):
                    raise
            else:
                response.eager_workflow_task.CopyFrom(task)
        return response

    async def signal_with_start_workflow_execution(
        self, request: SignalWithStartWorkflowExecutionRequest, call: Call
    ) -> SignalWithStartWorkflowExecutionResponse:
        """SignalWithStartWorkflowExecution: signals the id's open run, or starts one that begins with the signal."""
        namespace = self._namespaces.get(request.namespace, STARTABLE_STATES)
        start = _start_part(request)
        if not request.signal_name:
            raise InvalidArgumentError("signal not set")
        if checks.too_long(request.signal_name, self._limits):
            length = len(request.signal_name.encode())
            raise InvalidArgumentError(
                f"signal name exceeds maximum allowed length ({length}/{self._limits.id_bytes})"
            )
        if not start.workflow_type.name:
            raise InvalidArgumentError("workflow type not set")
        if request.workflow_id_conflict_policy == _FAIL:
            raise InvalidArgumentError(
                "Invalid WorkflowIDConflictPolicy: WORKFLOW_ID_CONFLICT_POLICY_FAIL is not supported for this "
                "operation."
            )
        self.prepare_start(start, namespace, _USE_EXISTING)
        request.request_id = start.request_id  # one was made up where there was none
        checks.links(request.links)
        checks.blob(request.signal_input.ByteSize(), self._limits)
        while True:
            started = await self._starts.start(
                namespace, start, NewRun(lambda tx: self._receive(tx, request))
            )
            response = SignalWithStartWorkflowExecutionResponse(
                run_id=started.run.run_id,
                started=started.started,
                first_execution_run_id=started.first_run_id,
            )
            _signal_link(response.signal_link, namespace, started.run, request.request_id)
            if started.started:
                return response
            try:
                await self._engine.transact(
                    started.run, lambda s, now: self._signal_existing(s, now, request)
                )
            except NotFoundError:
                continue  # it closed meanwhile: the reuse policy decides again
            return response

    def _signal_existing(
        self, state: RunState, now_ns: int, request: SignalWithStartWorkflowExecutionRequest
    ) -> tuple[Transition, None]:
        tx = self._open(state, now_ns)
        self._receive(tx, request)
        if tx.header.first_task_at_ns:
            # Signal-with-start does not wait for a delayed start: the first task is due now.
            workflow_task.release_first_task(tx)
        return tx, None

    def _receive(self, tx: Transition, request: SignalWithStartWorkflowExecutionRequest) -> None:
        signal.receive(
            tx,
            name=request.signal_name,
            input=request.signal_input if request.HasField("signal_input") else None,
            identity=request.identity,
            header=request.header if request.HasField("header") else None,
            request_id=request.request_id,
            links=request.links,
            limits=self._limits,
        )

    def prepare_start(
        self,
        request: StartWorkflowExecutionRequest,
        namespace: Namespace,
        default_conflict: WorkflowIdConflictPolicy.ValueType = _FAIL,
    ) -> None:
        """Checks a start request and fills in what it leaves open.

        Args:
            request: the request.
            namespace: where.
            default_conflict: the conflict policy of a request that names none.

        Raises:
            ServiceError: it cannot be done as it is.
        """
        limits = self._limits
        _policies(request, default_conflict)
        if not request.workflow_id:
            raise InvalidArgumentError("WorkflowId is not set on request.")
        if checks.too_long(request.workflow_id, limits):
            length = len(request.workflow_id.encode())
            raise InvalidArgumentError(
                f"WorkflowId exceeds maximum allowed length ({length}/{limits.id_bytes})"
            )
        if request.HasField("retry_policy"):
            retry.fill_defaults(request.retry_policy)
            retry.validate(request.retry_policy)
        if request.HasField("workflow_start_delay") and request.cron_schedule:
            raise InvalidArgumentError("CronSchedule and WorkflowStartDelay may not be used together.")
        delay_ns = _duration(request, "workflow_start_delay", "WorkflowStartDelaySeconds")
        cron.validate(request.cron_schedule, self._engine.runtime.now_ns())
        if not request.workflow_type.name:
            raise InvalidArgumentError("WorkflowType is not set on request.")
        if checks.too_long(request.workflow_type.name, limits):
            raise InvalidArgumentError("WorkflowType length exceeds limit.")
        checks.task_queue(request.task_queue if request.HasField("task_queue") else None, limits)
        if request.HasField("versioning_override"):
            routes = self._engine.routes(namespace.namespace_id)
            check_override(request.versioning_override, routes, request.task_queue.name)
        if not request.task_queue.kind:
            request.task_queue.kind = "TASK_QUEUE_KIND_NORMAL"  # type: ignore[assignment]  # names are accepted
        self._timeouts(request)
        checks.request_id(request.request_id, limits)
        if not request.request_id:
            request.request_id = self._engine.runtime.new_id()
        if request.HasField("search_attributes"):
            custom = namespace.search_attributes
            attributes.validate(request.search_attributes, custom, namespace.name, limits)
            attributes.mark_types(request.search_attributes, custom)
            attributes.validate_size(request.search_attributes, limits)
        if request.HasField("priority"):
            priorities.check(request.priority)
        callback_checks.check(request.completion_callbacks, self.callback_rules, limits)
        _leave_out_links_of_callbacks(request)
        checks.links(request.links)
        conflict = request.on_conflict_options
        if conflict.attach_completion_callbacks and not conflict.attach_request_id:
            raise InvalidArgumentError("attaching request ID is required for attaching completion callbacks")
        checks.blob(request.input.ByteSize(), limits)
        checks.memo(request.memo.fields, limits)
        if request.HasField("time_skipping_config"):
            raise UnimplementedError("The Time-Skipping feature is not enabled for namespace.")
        if delay_ns or request.cron_schedule:
            request.request_eager_execution = False

    def _timeouts(self, request: StartWorkflowExecutionRequest) -> None:
        execution_ns = _duration(request, "workflow_execution_timeout", "WorkflowExecutionTimeoutSeconds")
        run_ns = _duration(request, "workflow_run_timeout", "WorkflowRunTimeoutSeconds")
        task_ns = _duration(request, "workflow_task_timeout", "WorkflowTaskTimeoutSeconds")
        run_ns, task_ns = lifecycle.effective_timeouts(execution_ns, run_ns, task_ns, self._limits)
        if run_ns:
            set_duration(request.workflow_run_timeout, run_ns)
        set_duration(request.workflow_task_timeout, task_ns)

    # --- signal, cancel, terminate, delete ---

    async def signal_workflow_execution(
        self, request: SignalWorkflowExecutionRequest, call: Call
    ) -> SignalWorkflowExecutionResponse:
        """SignalWorkflowExecution: recorded once per request id."""
        namespace = self._namespaces.get(request.namespace)
        named = checks.execution(request)
        if not request.signal_name:
            raise InvalidArgumentError("SignalName is not set on request.")
        if checks.too_long(request.signal_name, self._limits):
            raise InvalidArgumentError("SignalName length exceeds limit.")
        checks.request_id(request.request_id, self._limits)
        checks.blob(request.input.ByteSize(), self._limits)
        checks.links(request.links)
        run = await self._histories.resolve(namespace.namespace_id, named.workflow_id, named.run_id)

        def apply(state: RunState, now_ns: int) -> tuple[Transition, None]:
            tx = self._open(state, now_ns)
            signal.receive(
                tx,
                name=request.signal_name,
                input=request.input if request.HasField("input") else None,
                identity=request.identity,
                header=request.header if request.HasField("header") else None,
                request_id=request.request_id,
                links=request.links,
                limits=self._limits,
            )
            return tx, None

        await self._transact(run, apply)
        response = SignalWorkflowExecutionResponse()
        _signal_link(response.link, namespace, run, request.request_id)
        return response

    async def request_cancel_workflow_execution(
        self, request: RequestCancelWorkflowExecutionRequest, call: Call
    ) -> RequestCancelWorkflowExecutionResponse:
        """RequestCancelWorkflowExecution: no-op when asked before or when the run is closed."""
        run = await self._named_run(request)

        def apply(state: RunState, now_ns: int) -> tuple[Transition | None, None]:
            _check_chain(state, request.first_execution_run_id)
            if not state.header.is_open:
                return None, None
            tx = Transition(state, now_ns)
            cancellation.request(
                tx,
                reason=request.reason,
                identity=request.identity,
                request_id=request.request_id,
                links=request.links,
            )
            return tx, None

        await self._transact(run, apply)
        return RequestCancelWorkflowExecutionResponse()

    async def terminate_workflow_execution(
        self, request: TerminateWorkflowExecutionRequest, call: Call
    ) -> TerminateWorkflowExecutionResponse:
        """TerminateWorkflowExecution: closes the run at once."""
        run = await self._named_run(request)

        def apply(state: RunState, now_ns: int) -> tuple[Transition, None]:
            _check_chain(state, request.first_execution_run_id)
            tx = self._open(state, now_ns)
            lifecycle.terminate(
                tx,
                reason=request.reason or _DEFAULT_TERMINATE_REASON,
                details=request.details if request.HasField("details") else None,
                identity=request.identity or _DEFAULT_TERMINATE_IDENTITY,
                links=request.links,
            )
            return tx, None

        await self._transact(run, apply)
        return TerminateWorkflowExecutionResponse()

    async def delete_workflow_execution(
        self, request: DeleteWorkflowExecutionRequest, call: Call
    ) -> DeleteWorkflowExecutionResponse:
        """DeleteWorkflowExecution: terminates the run if it is open, then deletes everything of it."""
        run = await self._named_run(request)

        def apply(state: RunState, now_ns: int) -> tuple[Transition | None, None]:
            if not state.header.is_open:
                return None, None
            tx = Transition(state, now_ns)
            lifecycle.terminate(
                tx, reason="Delete workflow execution", details=None, identity=lifecycle.SERVER_IDENTITY
            )
            return tx, None

        await self._transact(run, apply)
        await self._engine.settle(run)
        await self._engine.finish_anyway(self._engine.delete_run(run))
        return DeleteWorkflowExecutionResponse()

    async def _named_run(self, request: _NamesRun) -> RunKey:
        """The run that a request names by its workflow id, its run id if given, the current one otherwise."""
        namespace = self._namespaces.get(request.namespace)
        named = checks.execution(request)
        if not isinstance(request, DeleteWorkflowExecutionRequest):
            checks.links(request.links)
        return await self._histories.resolve(namespace.namespace_id, named.workflow_id, named.run_id)

    def _open(self, state: RunState, now_ns: int) -> Transition:
        if not state.header.is_open:
            raise NotFoundError(activity.RUN_CLOSED)
        return Transition(state, now_ns)

    async def _transact(self, run: RunKey, apply: Compute[None]) -> None:
        try:
            await self._engine.transact(run, apply)
        except RunNotFoundError as error:
            raise not_found(run) from error


def _check_chain(state: RunState, first_run_id: str) -> None:
    if first_run_id and state.header.first_run_id != first_run_id:
        raise NotFoundError("workflow execution not found")


def _duration(request: StartWorkflowExecutionRequest, field: str, label: str) -> int:
    """A duration in nanoseconds, cut to the longest there is, in the request too; 0 if it is not set."""
    if not request.HasField(field):  # type: ignore[arg-type]  # the name of one
        return 0
    duration = getattr(request, field)
    try:
        cap_duration(duration, "")
        return duration_ns(duration)
    except InvalidArgumentError as error:
        reason = str(error).removeprefix("invalid : ")
        raise InvalidArgumentError(f"An invalid {label} is set on request. cause: {reason}") from error


def _policies(
    request: StartWorkflowExecutionRequest, default_conflict: WorkflowIdConflictPolicy.ValueType
) -> None:
    reuse, conflict = request.workflow_id_reuse_policy, request.workflow_id_conflict_policy
    if reuse == _TERMINATE_IF_RUNNING:
        if conflict:
            raise InvalidArgumentError(
                "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING cannot be used together "
                "with a WorkflowIDConflictPolicy"
            )
        request.workflow_id_reuse_policy = _ALLOW
        request.workflow_id_conflict_policy = _TERMINATE_EXISTING
        return
    if reuse == _REJECT and conflict == _TERMINATE_EXISTING:
        raise InvalidArgumentError(
            "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE cannot be used together with "
            "WorkflowIdConflictPolicy WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING"
        )
    request.workflow_id_reuse_policy = reuse or _ALLOW
    request.workflow_id_conflict_policy = conflict or default_conflict


def _leave_out_links_of_callbacks(request: StartWorkflowExecutionRequest) -> None:
    """A link that a callback brings is not kept twice."""
    brought = [link for callback in request.completion_callbacks for link in callback.links]
    if brought:
        kept = [link for link in request.links if link not in brought]
        del request.links[:]
        request.links.extend(kept)


_SHARED_START_FIELDS = frozenset(
    field.name for field in SignalWithStartWorkflowExecutionRequest.DESCRIPTOR.fields
) & frozenset(field.name for field in StartWorkflowExecutionRequest.DESCRIPTOR.fields)


def _start_part(request: SignalWithStartWorkflowExecutionRequest) -> StartWorkflowExecutionRequest:
    start = StartWorkflowExecutionRequest()
    for field, value in request.ListFields():
        if field.name not in _SHARED_START_FIELDS or field.name == "links":
            continue
        if field.message_type is None or field.is_repeated:
            setattr(start, field.name, value)
        else:
            getattr(start, field.name).CopyFrom(value)
    start.links.extend(request.links)
    return start


def start_response(namespace: Namespace, started: Started, request_id: str) -> StartWorkflowExecutionResponse:
    """The answer to a start, without an eager task."""
    response = StartWorkflowExecutionResponse(
        run_id=started.run.run_id, started=started.started, first_execution_run_id=started.first_run_id
    )
    response.status = started.status  # type: ignore[assignment]  # a WorkflowExecutionStatus number
    start_link(response.link, namespace, started, request_id)
    return response


def start_link(link: Link, namespace: Namespace, started: Started, request_id: str) -> None:
    """Points to the event that says that a run was started, or that a request was attached to it."""
    event = link.workflow_event
    _name_run(event, namespace, started.run)
    if started.attached:
        event.request_id_ref.request_id = request_id
        event.request_id_ref.event_type = _OPTIONS_UPDATED
        return
    event.event_ref.event_id = 1
    event.event_ref.event_type = _STARTED


def _signal_link(link: Link, namespace: Namespace, run: RunKey, request_id: str) -> None:
    event = link.workflow_event
    _name_run(event, namespace, run)
    event.request_id_ref.request_id = request_id
    event.request_id_ref.event_type = _SIGNALED


def _name_run(event: Link.WorkflowEvent, namespace: Namespace, run: RunKey) -> None:
    event.namespace = namespace.name
    event.workflow_id = run.workflow_id
    event.run_id = run.run_id
