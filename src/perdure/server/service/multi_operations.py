"""ExecuteMultiOperation: update-with-start, the one combination of operations there is."""

from __future__ import annotations

from collections.abc import Callable

from perdure.api.enums.v1 import WorkflowIdConflictPolicy
from perdure.api.workflowservice.v1 import (
    ExecuteMultiOperationRequest,
    ExecuteMultiOperationResponse,
    StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
    UpdateWorkflowExecutionRequest,
)
from perdure.core.errors import (
    AbortedError,
    InvalidArgumentError,
    MultiOperationError,
    NotFoundError,
    OperationAbortedError,
    ServiceError,
    UnavailableError,
)
from perdure.core.run import update
from perdure.core.run.protos import duration_ns
from perdure.core.run.records import RunKey
from perdure.core.run.state import RunHeader, RunState
from perdure.core.run.update import UpdateRegistry, WaitingUpdate
from perdure.server.engine.engine import CONFLICT_RETRIES, Engine
from perdure.server.engine.runs import RunSlot
from perdure.server.engine.starts import NewRun, Started, Starts
from perdure.server.engine.updates import Updates, UpdateStatus
from perdure.server.namespaces import STARTABLE_STATES, Namespace
from perdure.server.service.call import Call
from perdure.server.service.executions import Executions, start_response
from perdure.server.service.update_rpcs import prepare_update, update_response

MESSAGE = "Update-with-Start could not be executed."
_USE_EXISTING = WorkflowIdConflictPolicy.Value("WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING")


class MultiOperations:
    """Handler of ExecuteMultiOperation.

    Args:
        engine: the runs.
        starts, updates: its two halves.
        executions: checks start requests.
    """

    def __init__(self, engine: Engine, starts: Starts, updates: Updates, executions: Executions) -> None:
        self._engine = engine
        self._namespaces = engine.namespaces
        self._starts = starts
        self._updates = updates
        self._executions = executions

    async def execute_multi_operation(
        self, request: ExecuteMultiOperationRequest, call: Call
    ) -> ExecuteMultiOperationResponse:
        """ExecuteMultiOperation: starts a run unless the policies let an open one stand for it, and updates it."""
        namespace = self._namespaces.get(request.namespace, STARTABLE_STATES)
        kinds = [operation.WhichOneof("operation") for operation in request.operations]
        if kinds != ["start_workflow", "update_workflow"]:
            raise InvalidArgumentError("Operations have to be exactly [Start, Update].")
        start = request.operations[0].start_workflow
        sent = request.operations[1].update_workflow
        self._prepare(namespace, start, sent)
        work = _UpdateWithStart(self, namespace, start, sent, call.deadline_s)
        return await work.execute()

    def _prepare(
        self,
        namespace: Namespace,
        start: StartWorkflowExecutionRequest,
        sent: UpdateWorkflowExecutionRequest,
    ) -> None:
        errors: list[ServiceError | None] = [
            _error_of(lambda: self._prepare_start(namespace, start)),
            _error_of(lambda: self._prepare_update(namespace, sent)),
        ]
        if errors == [None, None] and start.workflow_id != sent.workflow_execution.workflow_id:
            errors[1] = InvalidArgumentError("WorkflowId is not consistent with previous operation(s).")
        if errors != [None, None]:
            raise MultiOperationError(MESSAGE, [error or OperationAbortedError() for error in errors])

    def _prepare_start(self, namespace: Namespace, start: StartWorkflowExecutionRequest) -> None:
        _check_namespace(start.namespace, namespace)
        wants_eager = start.request_eager_execution
        self._executions.prepare_start(start, namespace)
        if start.cron_schedule:
            raise InvalidArgumentError("CronSchedule is not allowed.")
        if wants_eager:
            raise InvalidArgumentError("RequestEagerExecution is not supported.")
        if duration_ns(start.workflow_start_delay):
            raise InvalidArgumentError("WorkflowStartDelay is not supported.")

    def _prepare_update(self, namespace: Namespace, sent: UpdateWorkflowExecutionRequest) -> None:
        _check_namespace(sent.namespace, namespace)
        prepare_update(sent, self._engine, self._executions.callback_rules)
        if sent.first_execution_run_id:
            raise InvalidArgumentError("FirstExecutionRunId is not allowed.")
        if sent.workflow_execution.run_id:
            raise InvalidArgumentError("RunId is not allowed.")


class _UpdateWithStart:
    """One request on its way."""

    def __init__(
        self,
        owner: MultiOperations,
        namespace: Namespace,
        start: StartWorkflowExecutionRequest,
        sent: UpdateWorkflowExecutionRequest,
        deadline_s: float | None,
    ) -> None:
        self._engine = owner._engine
        self._starts = owner._starts
        self._updates = owner._updates
        self._namespace = namespace
        self._start = start
        self._sent = sent
        self._deadline_s = deadline_s
        self._update_id = sent.request.meta.update_id

    async def execute(self) -> ExecuteMultiOperationResponse:
        """Does both; once more if the run that was to be updated closed over it."""
        was_aborted = False
        for _ in range(CONFLICT_RETRIES):
            try:
                response = await self._on_current_run() or await self._on_new_run()
            except NotFoundError as error:
                # Only the update of a run that was open before ends so.
                if str(error) != update.ABORTED_BY_CLOSE:
                    raise MultiOperationError(MESSAGE, [OperationAbortedError(), error]) from error
                if was_aborted:
                    aborted = AbortedError(str(error))
                    raise MultiOperationError(MESSAGE, [OperationAbortedError(), aborted]) from error
                was_aborted = True
                continue
            if response is not None:
                return response
        busy = UnavailableError("workflow is being started by others; try again")
        raise MultiOperationError(MESSAGE, [busy, OperationAbortedError()])

    async def _on_current_run(self) -> ExecuteMultiOperationResponse | None:
        """Updates the workflow id's newest run if it stands for the start; None if a new one must be started."""
        engine = self._engine
        current = await engine.reading(
            engine.store.current_run(self._namespace.namespace_id, self._start.workflow_id)
        )
        if current is None:
            return None
        slot = engine.runs.pin(current.run)
        try:
            async with slot.alone():
                try:
                    state = await engine.load(slot)
                except NotFoundError:
                    return None
                status = state.header.status
                if not self._stands(slot, state):
                    return None
                known = state.updates.get(self._update_id)
                is_done = known is not None and known.completed_event_id > 0
                waiting = self._admit(slot, state)
                engine.speculative.bring_updates(slot)
            await self._updates.follow_up(slot, self._sent.request)
            reached = await self._wait(slot, waiting, is_new=False)
            started = Started(current.run, "", False, status)
            start = start_response(self._namespace, started, self._start.request_id)
            response = self._response(start, reached)
            if is_done:
                # As the official server does: nothing was done that a link could point to.
                response.responses[0].start_workflow.ClearField("link")
                response.responses[1].update_workflow.ClearField("link")
            return response
        finally:
            engine.runs.unpin(slot)

    def _stands(self, slot: RunSlot, state: RunState) -> bool:
        """Whether the run is the one to update: it is open and may be used, or it knows the update."""
        accepted = state.updates.get(self._update_id)
        if accepted is not None and accepted.completed_event_id:
            return True
        if not state.header.is_open:
            return False
        request_id = self._start.request_id
        return (
            request_id == state.header.start_request_id
            or request_id in state.attached_requests
            or accepted is not None
            or (slot.updates is not None and self._update_id in slot.updates.waiting)
            or self._start.workflow_id_conflict_policy == _USE_EXISTING
        )

    def _admit(self, slot: RunSlot, state: RunState) -> WaitingUpdate | None:
        try:
            return self._updates.admit(slot, state, self._sent.request)
        except ServiceError as error:
            raise MultiOperationError(MESSAGE, [OperationAbortedError(), error]) from error

    async def _on_new_run(self) -> ExecuteMultiOperationResponse | None:
        """Starts a run whose first workflow task brings the update; None if others were faster."""
        self._check_first_update()
        admitted: list[tuple[RunSlot, WaitingUpdate | None]] = []
        refusals: list[ServiceError] = []
        is_gone = False

        def admit(slot: RunSlot) -> None:
            try:
                waiting = self._updates.admit(slot, _committed(slot), self._sent.request)
            except (
                ServiceError
            ) as error:  # the run is there, and whoever waits for its first task must get it
                refusals.append(error)
                return
            if not is_gone:
                self._engine.runs.pin(slot.key)
                admitted.append((slot, waiting))

        try:
            try:
                started = await self._starts.start(self._namespace, self._start, NewRun(once_committed=admit))
            except ServiceError as error:
                raise MultiOperationError(MESSAGE, [error, OperationAbortedError()]) from error
            if refusals:
                raise MultiOperationError(MESSAGE, [None, refusals[0]]) from refusals[0]
            if not admitted:
                return None
            slot, waiting = admitted[0]
            reached = await self._wait(slot, waiting, is_new=True)
            start = start_response(self._namespace, started, self._start.request_id)
            return self._response(start, reached)
        finally:
            is_gone = True  # the start is finished even if the caller is not there any more
            for slot, _ in admitted:
                self._engine.runs.unpin(slot)

    def _check_first_update(self) -> None:
        """Nothing is started for an update that no run takes.

        Raises:
            MultiOperationError: it is larger than a run without any other takes.
        """
        nobody = RunState(RunKey(self._namespace.namespace_id, self._start.workflow_id, ""), 0, RunHeader())
        try:
            UpdateRegistry().admit(nobody, self._sent.request, self._engine.limits.run)
        except ServiceError as error:
            raise MultiOperationError(MESSAGE, [OperationAbortedError(), error]) from error

    async def _wait(self, slot: RunSlot, waiting: WaitingUpdate | None, *, is_new: bool) -> UpdateStatus:
        stage = self._sent.wait_policy.lifecycle_stage
        try:
            return await self._updates.wait(slot, self._update_id, waiting, stage, self._deadline_s)
        except ServiceError as error:
            if not is_new and isinstance(error, NotFoundError):
                raise
            raise MultiOperationError(
                MESSAGE, [None if is_new else OperationAbortedError(), error]
            ) from error

    def _response(
        self, start: StartWorkflowExecutionResponse, reached: UpdateStatus
    ) -> ExecuteMultiOperationResponse:
        response = ExecuteMultiOperationResponse()
        response.responses.add().start_workflow.CopyFrom(start)
        sent = update_response(self._namespace.name, reached, self._sent)
        response.responses.add().update_workflow.CopyFrom(sent)
        return response


def _committed(slot: RunSlot) -> RunState:
    state = slot.state
    if state is None:
        raise UnavailableError("the run is not in memory any more")
    return state


def _error_of(check: Callable[[], None]) -> ServiceError | None:
    try:
        check()
    except ServiceError as error:
        return error
    return None


def _check_namespace(named: str, namespace: Namespace) -> None:
    if named and named != namespace.name:
        raise InvalidArgumentError("Operation namespace did not match request's namespace.")
