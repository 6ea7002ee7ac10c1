"""RPCs on standalone Nexus operations: start, describe, poll for a stage, list, count, cancel, terminate, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.api.enums.v1 import (
    NexusOperationIdConflictPolicy,
    NexusOperationIdReusePolicy,
    NexusOperationWaitStage,
)
from perdure.api.workflowservice.v1 import (
    CountNexusOperationExecutionsRequest,
    CountNexusOperationExecutionsResponse,
    DeleteNexusOperationExecutionRequest,
    DeleteNexusOperationExecutionResponse,
    DescribeNexusOperationExecutionRequest,
    DescribeNexusOperationExecutionResponse,
    ListNexusOperationExecutionsRequest,
    ListNexusOperationExecutionsResponse,
    PollNexusOperationExecutionRequest,
    PollNexusOperationExecutionResponse,
    RequestCancelNexusOperationExecutionRequest,
    RequestCancelNexusOperationExecutionResponse,
    StartNexusOperationExecutionRequest,
    StartNexusOperationExecutionResponse,
    TerminateNexusOperationExecutionRequest,
    TerminateNexusOperationExecutionResponse,
)
from perdure.core.errors import (
    CurrentRunConflictError,
    InvalidArgumentError,
    NexusOperationAlreadyStartedError,
    NotFoundError,
    UnavailableError,
    VersionConflictError,
)
from perdure.core.operation import machine, messages
from perdure.core.operation.state import OperationRun, OperationTransition
from perdure.core.run import lifecycle
from perdure.core.run.records import RunKey, RunKind
from perdure.core.run.state import RUNNING
from perdure.server.engine.engine import Engine
from perdure.server.engine.standalone_runs import CONFLICT_RETRIES
from perdure.server.namespaces import STARTABLE_STATES, Namespace
from perdure.server.nexus_endpoints import NexusEndpoints
from perdure.server.service.call import Call
from perdure.server.service.execution_info import shown_attributes, typed
from perdure.server.service.standalone_rpcs import StandaloneRpcs, check_run_id
from perdure.store.protocol import CurrentRun

_FAILED_ONLY = NexusOperationIdReusePolicy.Value(
    "NEXUS_OPERATION_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY"
)
_REJECT = NexusOperationIdReusePolicy.Value("NEXUS_OPERATION_ID_REUSE_POLICY_REJECT_DUPLICATE")
_USE_EXISTING = NexusOperationIdConflictPolicy.Value("NEXUS_OPERATION_ID_CONFLICT_POLICY_USE_EXISTING")
_STAGE_ANY = NexusOperationWaitStage.Value("NEXUS_OPERATION_WAIT_STAGE_UNSPECIFIED")
_STAGE_STARTED = NexusOperationWaitStage.Value("NEXUS_OPERATION_WAIT_STAGE_STARTED")
_STAGE_CLOSED = NexusOperationWaitStage.Value("NEXUS_OPERATION_WAIT_STAGE_CLOSED")
_DELETE_REASON = "Delete nexus operation execution"
_BAD_RUN_ID = "run_id is not a valid UUID"
_STATE_TOKEN = "operation-state"  # a kind of token
_BAD_TOKEN = "invalid long poll token"


class StandaloneOperations(StandaloneRpcs):
    """Handlers of the RPCs.

    Args:
        engine: whose operations.
        endpoints: where handlers are.
        long_poll_s: how long a long poll waits at most.
        page_size: rows of a page of a list at most.
    """

    def __init__(
        self, engine: Engine, endpoints: NexusEndpoints, long_poll_s: float = 20.0, page_size: int = 1_000
    ) -> None:
        super().__init__(
            engine, RunKind.NEXUS_OPERATION, messages.ALIASES, messages.ATTRIBUTES, long_poll_s, page_size
        )
        self._runs = engine.operation_runs
        self._endpoints = endpoints

    # --- start

    async def start_nexus_operation_execution(
        self, request: StartNexusOperationExecutionRequest, call: Call
    ) -> StartNexusOperationExecutionResponse:
        """StartNexusOperationExecution: starts one, or finds the one that the policies let stand for it."""
        namespace = self._engine.namespaces.get(request.namespace, STARTABLE_STATES)
        endpoint_id = self._prepare(request, namespace)
        for _ in range(CONFLICT_RETRIES):
            current = await self._current(namespace, request.operation_id)
            if current is not None and self._stands(current, request):
                return StartNexusOperationExecutionResponse(run_id=current.run.run_id)
            runtime = self._engine.runtime
            run = RunKey(
                namespace.namespace_id, request.operation_id, runtime.new_run_id(), RunKind.NEXUS_OPERATION
            )
            handler_request_id = runtime.new_id()
            try:
                await self._runs.create(
                    namespace,
                    lambda now_ns, run=run, request_id=handler_request_id: machine.start(  # type: ignore[misc]
                        run, request, endpoint_id, request_id, namespace.retention_ns, now_ns
                    ),
                    current.run.run_id if current is not None else None,
                )
            except (CurrentRunConflictError, VersionConflictError):
                continue
            return StartNexusOperationExecutionResponse(run_id=run.run_id, started=True)
        raise UnavailableError(f"operation id {request.operation_id} is being started by others; try again")

    def _prepare(self, request: StartNexusOperationExecutionRequest, namespace: Namespace) -> str:
        """Checks a request and fills in what it leaves open. Returns the id of its endpoint."""
        request.request_id = request.request_id or self._engine.runtime.new_id()
        self._check_id("request_id", request.request_id)
        self._check_operation(request.operation_id)
        self._check_id("identity", request.identity)
        if not request.endpoint:
            raise InvalidArgumentError("endpoint is required")
        machine.normalize(request, self._limits)
        self._check_metadata(request.user_metadata)
        machine.normalize_header(request, self._limits)
        if request.HasField("search_attributes"):
            self._check_attributes(request.search_attributes, namespace)
        if request.completion_callbacks:
            raise InvalidArgumentError(
                "completion callbacks are not supported for standalone Nexus operations"
            )
        endpoint = self._endpoints.by_name(request.endpoint)
        if endpoint is None:
            raise NotFoundError(f"could not find Nexus endpoint by name: {request.endpoint}")
        return endpoint.endpoint_id

    def _stands(self, current: CurrentRun, request: StartNexusOperationExecutionRequest) -> bool:
        """Whether the id's newest execution stands for the request, rather than making room for a new one.

        Raises:
            NexusOperationAlreadyStartedError: the policies allow neither.
        """
        if current.start_request_id == request.request_id:
            return True
        if current.status == RUNNING:
            if request.id_conflict_policy == _USE_EXISTING:
                return True
            raise _already(current)
        is_done = current.status == lifecycle.STATUS_COMPLETED
        if request.id_reuse_policy == _REJECT or (request.id_reuse_policy == _FAILED_ONLY and is_done):
            raise _already(current)
        return False

    # --- reading one

    async def describe_nexus_operation_execution(
        self, request: DescribeNexusOperationExecutionRequest, call: Call
    ) -> DescribeNexusOperationExecutionResponse:
        """DescribeNexusOperationExecution: at once, or with a token once the state is not the token's any more."""
        namespace = self._engine.namespaces.get(request.namespace)
        self._check_operation(request.operation_id)
        if request.long_poll_token and not request.run_id:
            raise InvalidArgumentError("run_id is required when long_poll_token is provided")
        check_run_id(request.run_id, _BAD_RUN_ID)
        version = 0
        if request.long_poll_token:
            fields = self._engine.tokens.open(_STATE_TOKEN, request.long_poll_token, _BAD_TOKEN)
            if fields[0] != request.run_id:
                raise InvalidArgumentError("long poll token does not match execution")
            version = int(fields[1])
        run = await self._find(namespace, request.operation_id, request.run_id)
        if not version:
            return self._described(await self._runs.state(run), request, namespace)
        changed = await self._runs.wait(run, lambda state: state.version > version, self._wait_s(call))
        if changed is None:
            return DescribeNexusOperationExecutionResponse()
        return self._described(changed, request, namespace)

    def _described(
        self, state: OperationRun, request: DescribeNexusOperationExecutionRequest, namespace: Namespace
    ) -> DescribeNexusOperationExecutionResponse:
        fields = typed(state.request.search_attributes.SerializeToString(), namespace.search_attributes)
        response = DescribeNexusOperationExecutionResponse(
            run_id=state.run.run_id,
            info=messages.describe(state, self._engine.runtime.now_ns(), fields),
            long_poll_token=self._engine.tokens.seal(_STATE_TOKEN, state.run.run_id, state.version),
        )
        if request.include_input and state.request.HasField("input"):
            response.input.CopyFrom(state.request.input)
        if request.include_outcome and state.outcome is not None:
            name = state.outcome.WhichOneof("outcome") or "failure"
            getattr(response, name).CopyFrom(getattr(state.outcome, name))
        return response

    async def poll_nexus_operation_execution(
        self, request: PollNexusOperationExecutionRequest, call: Call
    ) -> PollNexusOperationExecutionResponse:
        """PollNexusOperationExecution: waits for a stage; empty when it was not reached in time."""
        self._engine.namespaces.get(request.namespace)
        if request.wait_stage not in (_STAGE_ANY, _STAGE_STARTED, _STAGE_CLOSED):
            raise InvalidArgumentError(f"unsupported wait_stage: {request.wait_stage}")
        self._check_operation(request.operation_id)
        check_run_id(request.run_id, _BAD_RUN_ID)
        namespace = self._engine.namespaces.get(request.namespace)
        run = await self._find(namespace, request.operation_id, request.run_id)
        holds: Callable[[OperationRun], bool] = _is_closed
        if request.wait_stage == _STAGE_STARTED:
            holds = _is_started
        reached = await self._runs.wait(run, holds, self._wait_s(call))
        return PollNexusOperationExecutionResponse() if reached is None else messages.polled(reached)

    # --- lists

    async def list_nexus_operation_executions(
        self, request: ListNexusOperationExecutionsRequest, call: Call
    ) -> ListNexusOperationExecutionsResponse:
        """ListNexusOperationExecutions: open ones first, then the last closed."""
        namespace = self._engine.namespaces.get(request.namespace)
        page = await self._page(request, namespace)
        custom = namespace.search_attributes
        rows = [
            messages.list_info(row.run, row.record, shown_attributes(row.record, custom)) for row in page.rows
        ]
        return ListNexusOperationExecutionsResponse(operations=rows, next_page_token=page.next_cursor or b"")

    async def count_nexus_operation_executions(
        self, request: CountNexusOperationExecutionsRequest, call: Call
    ) -> CountNexusOperationExecutionsResponse:
        """CountNexusOperationExecutions: of all that match, or by status with GROUP BY."""
        response = CountNexusOperationExecutionsResponse()
        await self._count(request, response)
        return response

    # --- ending one

    async def request_cancel_nexus_operation_execution(
        self, request: RequestCancelNexusOperationExecutionRequest, call: Call
    ) -> RequestCancelNexusOperationExecutionResponse:
        """RequestCancelNexusOperationExecution: its handler is asked, once the operation runs."""
        run = await self._ended(request)

        def apply(state: OperationRun, now_ns: int) -> tuple[OperationTransition, None]:
            tx = OperationTransition(state, now_ns)
            machine.request_cancel(tx, request_id=request.request_id, reason=request.reason)
            return tx, None

        await self._runs.transact(run, apply)
        return RequestCancelNexusOperationExecutionResponse()

    async def terminate_nexus_operation_execution(
        self, request: TerminateNexusOperationExecutionRequest, call: Call
    ) -> TerminateNexusOperationExecutionResponse:
        """TerminateNexusOperationExecution: closes it; its handler is not told."""
        run = await self._ended(request)

        def apply(state: OperationRun, now_ns: int) -> tuple[OperationTransition, None]:
            tx = OperationTransition(state, now_ns)
            machine.terminate(
                tx, request_id=request.request_id, reason=request.reason, identity=request.identity
            )
            return tx, None

        await self._runs.transact(run, apply)
        return TerminateNexusOperationExecutionResponse()

    async def delete_nexus_operation_execution(
        self, request: DeleteNexusOperationExecutionRequest, call: Call
    ) -> DeleteNexusOperationExecutionResponse:
        """DeleteNexusOperationExecution: terminates it if it is open, then deletes everything of it."""
        namespace = self._engine.namespaces.get(request.namespace)
        self._check_operation(request.operation_id)
        check_run_id(request.run_id, _BAD_RUN_ID)
        run = await self._find(namespace, request.operation_id, request.run_id)

        def apply(state: OperationRun, now_ns: int) -> tuple[OperationTransition | None, None]:
            if not state.header.is_open:
                return None, None
            tx = OperationTransition(state, now_ns)
            machine.terminate(tx, request_id="", reason=_DELETE_REASON, identity="")
            return tx, None

        await self._runs.transact(run, apply)
        await self._runs.delete(run)
        return DeleteNexusOperationExecutionResponse()

    async def _ended(
        self, request: RequestCancelNexusOperationExecutionRequest | TerminateNexusOperationExecutionRequest
    ) -> RunKey:
        """The execution that a request to end it names; the request is checked."""
        namespace = self._engine.namespaces.get(request.namespace)
        request.request_id = request.request_id or self._engine.runtime.new_id()
        self._check_id("request_id", request.request_id)
        self._check_operation(request.operation_id)
        check_run_id(request.run_id, _BAD_RUN_ID)
        self._check_id("identity", request.identity)
        length = len(request.reason.encode())
        if length > machine.REASON_BYTES:
            raise InvalidArgumentError(
                f"reason exceeds length limit. Length={length} Limit={machine.REASON_BYTES}"
            )
        return await self._find(namespace, request.operation_id, request.run_id)

    async def _find(self, namespace: Namespace, operation_id: str, run_id: str) -> RunKey:
        """The execution that a request names; without run id the newest of the operation id.

        Raises:
            NotFoundError: the id has none.
        """
        if run_id:
            return RunKey(namespace.namespace_id, operation_id, run_id, RunKind.NEXUS_OPERATION)
        current = await self._current(namespace, operation_id)
        if current is None:
            raise NotFoundError(f"operation not found for ID: {operation_id}")
        return current.run

    # --- checks

    def _check_operation(self, operation_id: str) -> None:
        if not operation_id:
            raise InvalidArgumentError("operation_id is required")
        self._check_id("operation_id", operation_id)

    def _check_id(self, name: str, value: Any) -> None:
        length, limit = len(value.encode()), self._limits.id_bytes
        if length > limit:
            raise InvalidArgumentError(f"{name} exceeds length limit. Length={length} Limit={limit}")


def _is_closed(state: OperationRun) -> bool:
    return not state.header.is_open


def _is_started(state: OperationRun) -> bool:
    return state.header.is_started or not state.header.is_open


def _already(current: CurrentRun) -> NexusOperationAlreadyStartedError:
    request_id, run_id = current.start_request_id, current.run.run_id
    return NexusOperationAlreadyStartedError(
        f"nexus operation execution already started: request_id={request_id}, run_id={run_id}",
        start_request_id=request_id,
        run_id=run_id,
    )
