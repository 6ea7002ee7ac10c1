"""RPCs on standalone activities: start, describe, poll for the outcome, list, count, cancel, terminate, delete.

What operators do to them (pause, reset, options) is in the module beside this one.
"""

from __future__ import annotations

from typing import Any

from perdure.api.enums.v1 import ActivityIdConflictPolicy, ActivityIdReusePolicy
from perdure.api.workflowservice.v1 import (
    CountActivityExecutionsRequest,
    CountActivityExecutionsResponse,
    DeleteActivityExecutionRequest,
    DeleteActivityExecutionResponse,
    DescribeActivityExecutionRequest,
    DescribeActivityExecutionResponse,
    ListActivityExecutionsRequest,
    ListActivityExecutionsResponse,
    PollActivityExecutionRequest,
    PollActivityExecutionResponse,
    RequestCancelActivityExecutionRequest,
    RequestCancelActivityExecutionResponse,
    StartActivityExecutionRequest,
    StartActivityExecutionResponse,
    TerminateActivityExecutionRequest,
    TerminateActivityExecutionResponse,
)
from perdure.core.activity import control, machine, messages
from perdure.core.activity.state import ActivityRun, ActivityTransition
from perdure.core.errors import (
    ActivityAlreadyStartedError,
    CurrentRunConflictError,
    FailedPreconditionError,
    InvalidArgumentError,
    UnavailableError,
    VersionConflictError,
)
from perdure.core.run import lifecycle
from perdure.core.run.protos import cap_duration, text_payloads
from perdure.core.run.records import RunKey, RunKind
from perdure.core.run.state import RUNNING
from perdure.core.visibility import ACTIVITY_ALIASES
from perdure.server.engine.engine import Engine
from perdure.server.engine.standalone_runs import CONFLICT_RETRIES
from perdure.server.namespaces import STARTABLE_STATES, Namespace
from perdure.server.service import checks
from perdure.server.service.activity_answers import find
from perdure.server.service.call import Call
from perdure.server.service.execution_info import shown_attributes, typed
from perdure.server.service.standalone_rpcs import StandaloneRpcs, check_run_id
from perdure.store.protocol import CurrentRun

_ALLOW = ActivityIdReusePolicy.Value("ACTIVITY_ID_REUSE_POLICY_ALLOW_DUPLICATE")
_FAILED_ONLY = ActivityIdReusePolicy.Value("ACTIVITY_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY")
_REJECT = ActivityIdReusePolicy.Value("ACTIVITY_ID_REUSE_POLICY_REJECT_DUPLICATE")
_FAIL = ActivityIdConflictPolicy.Value("ACTIVITY_ID_CONFLICT_POLICY_FAIL")
_USE_EXISTING = ActivityIdConflictPolicy.Value("ACTIVITY_ID_CONFLICT_POLICY_USE_EXISTING")
_FAILED_STATUSES = frozenset(
    (
        lifecycle.STATUS_FAILED,
        lifecycle.STATUS_CANCELED,
        lifecycle.STATUS_TERMINATED,
        lifecycle.STATUS_TIMED_OUT,
    )
)
_DELETE_REASON = "Delete activity execution"
_BAD_RUN_ID = "invalid run id: must be a valid UUID"
_STATE_TOKEN = "activity-state"  # a kind of token


class StandaloneActivities(StandaloneRpcs):
    """Handlers of the RPCs.

    Args:
        engine: whose activities.
        long_poll_s: how long a long poll waits at most.
        page_size: rows of a page of a list at most.
    """

    def __init__(self, engine: Engine, long_poll_s: float = 20.0, page_size: int = 1_000) -> None:
        super().__init__(engine, RunKind.ACTIVITY, ACTIVITY_ALIASES, {}, long_poll_s, page_size)
        self._runs = engine.activity_runs

    # --- start

    async def start_activity_execution(
        self, request: StartActivityExecutionRequest, call: Call
    ) -> StartActivityExecutionResponse:
        """StartActivityExecution: starts an execution, or finds the one that the policies let stand for it."""
        namespace = self._engine.namespaces.get(request.namespace, STARTABLE_STATES)
        self._prepare(request, namespace)
        for _ in range(CONFLICT_RETRIES):
            current = await self._current(namespace, request.activity_id)
            if current is not None and self._stands(current, request):
                await self._attach(current.run, request)
                return _started(request, current.run.run_id, started=False)
            run = RunKey(
                namespace.namespace_id,
                request.activity_id,
                self._engine.runtime.new_run_id(),
                RunKind.ACTIVITY,
            )
            try:
                await self._runs.create(
                    namespace,
                    lambda now_ns, run=run: machine.start(  # type: ignore[misc]  # bound now
                        run, request, namespace.name, namespace.retention_ns, now_ns
                    ),
                    current.run.run_id if current is not None else None,
                )
            except (CurrentRunConflictError, VersionConflictError):
                continue
            return _started(request, run.run_id, started=True)
        raise UnavailableError(f"activity id {request.activity_id} is being started by others; try again")

    def _prepare(self, request: StartActivityExecutionRequest, namespace: Namespace) -> None:
        """Checks a request and fills in what it leaves open."""
        request.request_id = request.request_id or self._engine.runtime.new_id()
        cap_duration(request.start_delay, "StartDelay")
        machine.normalize(request, self._limits)
        self._check_ids(request, "request_id", "identity")
        request.id_reuse_policy = request.id_reuse_policy or _ALLOW
        request.id_conflict_policy = request.id_conflict_policy or _FAIL
        if request.input.ByteSize() > self._limits.blob_bytes:
            raise InvalidArgumentError("input exceeds length limit")
        self._check_metadata(request.user_metadata)
        if request.HasField("search_attributes"):
            self._check_attributes(request.search_attributes, namespace)
        if request.completion_callbacks:
            raise InvalidArgumentError("completion callbacks are not enabled for this namespace")
        checks.links(request.links)
        wanted = request.on_conflict_options
        if wanted.attach_completion_callbacks and not wanted.attach_request_id:
            raise InvalidArgumentError(
                "on_conflict_options: attach_completion_callbacks requires attach_request_id to be set"
            )
        if wanted.attach_request_id and not request.links:
            raise InvalidArgumentError(
                "on_conflict_options: attach_request_id requires at least one completion callback or link"
            )
        if request.id_reuse_policy not in (_ALLOW, _FAILED_ONLY, _REJECT):
            raise InvalidArgumentError(f"unsupported ID reuse policy: {request.id_reuse_policy}")
        if request.id_conflict_policy not in (_FAIL, _USE_EXISTING):
            raise InvalidArgumentError(f"unsupported ID conflict policy: {request.id_conflict_policy}")

    def _stands(self, current: CurrentRun, request: StartActivityExecutionRequest) -> bool:
        """Whether the id's newest execution stands for the request, rather than making room for a new one.

        Raises:
            ActivityAlreadyStartedError: the policies allow neither.
        """
        if current.start_request_id == request.request_id:
            return True
        if current.status == RUNNING:
            if request.id_conflict_policy == _USE_EXISTING:
                return True
            raise _already(current)
        is_failed = current.status in _FAILED_STATUSES
        if request.id_reuse_policy == _REJECT or (request.id_reuse_policy == _FAILED_ONLY and not is_failed):
            raise _already(current)
        return False

    async def _attach(self, run: RunKey, request: StartActivityExecutionRequest) -> None:
        if not request.on_conflict_options.attach_links or not request.links:
            return

        def apply(state: ActivityRun, now_ns: int) -> tuple[ActivityTransition, None]:
            tx = ActivityTransition(state, now_ns)
            control.attach_links(tx, request.request_id, request.links)
            return tx, None

        await self._runs.transact(run, apply)

    # --- reading one

    async def describe_activity_execution(
        self, request: DescribeActivityExecutionRequest, call: Call
    ) -> DescribeActivityExecutionResponse:
        """DescribeActivityExecution: at once, or with a token once the state is not the token's any more."""
        namespace = self._engine.namespaces.get(request.namespace)
        self._check_activity(request)
        if request.long_poll_token and not request.run_id:
            raise InvalidArgumentError("run id is required when long poll token is provided")
        check_run_id(request.run_id, _BAD_RUN_ID)
        run = await find(self._engine, namespace.namespace_id, request.activity_id, request.run_id)
        if not request.long_poll_token:
            return self._described(await self._runs.state(run), request, namespace)
        fields = self._engine.tokens.open(_STATE_TOKEN, request.long_poll_token, "invalid long poll token")
        if fields[0] != run.run_id:
            raise InvalidArgumentError("long poll token does not match execution")
        changed = await self._runs.wait(run, lambda state: state.version > fields[1], self._wait_s(call))
        if changed is None:
            return DescribeActivityExecutionResponse()
        return self._described(changed, request, namespace)

    def _described(
        self, state: ActivityRun, request: DescribeActivityExecutionRequest, namespace: Namespace
    ) -> DescribeActivityExecutionResponse:
        data = state.request.search_attributes.SerializeToString()
        response = DescribeActivityExecutionResponse(
            run_id=state.run.run_id,
            info=messages.describe(
                state,
                self._engine.runtime.now_ns(),
                typed(data, namespace.search_attributes),
                heartbeat=request.include_heartbeat_details,
                last_failure=request.include_last_failure,
            ),
            long_poll_token=self._engine.tokens.seal(_STATE_TOKEN, state.run.run_id, state.version),
        )
        if request.include_input and state.request.HasField("input"):
            response.input.CopyFrom(state.request.input)
        if request.include_outcome and state.outcome is not None:
            response.outcome.CopyFrom(state.outcome)
        return response

    async def poll_activity_execution(
        self, request: PollActivityExecutionRequest, call: Call
    ) -> PollActivityExecutionResponse:
        """PollActivityExecution: waits for the outcome; empty when it did not come in time."""
        namespace = self._engine.namespaces.get(request.namespace)
        self._check_activity(request)
        check_run_id(request.run_id, _BAD_RUN_ID)
        run = await find(self._engine, namespace.namespace_id, request.activity_id, request.run_id)
        closed = await self._runs.wait(run, lambda state: not state.header.is_open, self._wait_s(call))
        if closed is None:
            return PollActivityExecutionResponse()
        return PollActivityExecutionResponse(run_id=run.run_id, outcome=closed.outcome)

    # --- lists

    async def list_activity_executions(
        self, request: ListActivityExecutionsRequest, call: Call
    ) -> ListActivityExecutionsResponse:
        """ListActivityExecutions: open ones first, then the last closed."""
        namespace = self._engine.namespaces.get(request.namespace)
        page = await self._page(request, namespace)
        custom = namespace.search_attributes
        rows = [
            messages.list_info(row.run, row.record, shown_attributes(row.record, custom)) for row in page.rows
        ]
        return ListActivityExecutionsResponse(executions=rows, next_page_token=page.next_cursor or b"")

    async def count_activity_executions(
        self, request: CountActivityExecutionsRequest, call: Call
    ) -> CountActivityExecutionsResponse:
        """CountActivityExecutions: of all that match, or by status with GROUP BY."""
        response = CountActivityExecutionsResponse()
        await self._count(request, response)
        return response

    # --- ending one

    async def request_cancel_activity_execution(
        self, request: RequestCancelActivityExecutionRequest, call: Call
    ) -> RequestCancelActivityExecutionResponse:
        """RequestCancelActivityExecution: at once if no worker has it, else told by heartbeat."""
        run = await self._ended(request)

        def apply(state: ActivityRun, now_ns: int) -> tuple[ActivityTransition, None]:
            tx = ActivityTransition(state, now_ns)
            is_free = control.request_cancel(
                tx, request_id=request.request_id, identity=request.identity, reason=request.reason
            )
            if is_free:
                machine.close_canceled(tx, text_payloads(request.reason))
            return tx, None

        await self._runs.transact(run, apply)
        return RequestCancelActivityExecutionResponse()

    async def terminate_activity_execution(
        self, request: TerminateActivityExecutionRequest, call: Call
    ) -> TerminateActivityExecutionResponse:
        """TerminateActivityExecution: closes it, whoever has it."""
        run = await self._ended(request)

        def apply(state: ActivityRun, now_ns: int) -> tuple[ActivityTransition | None, None]:
            header = state.header
            if header.status == lifecycle.STATUS_TERMINATED:
                if header.terminate_request_id != request.request_id:
                    raise FailedPreconditionError(
                        f"already terminated with request ID {header.terminate_request_id}"
                    )
                return None, None
            if not header.is_open:
                raise FailedPreconditionError("invalid transition from " + control.state_name(header))
            tx = ActivityTransition(state, now_ns)
            tx.header.terminate_request_id = request.request_id
            machine.close_terminated(tx, request.reason, request.identity)
            return tx, None

        await self._runs.transact(run, apply)
        return TerminateActivityExecutionResponse()

    async def delete_activity_execution(
        self, request: DeleteActivityExecutionRequest, call: Call
    ) -> DeleteActivityExecutionResponse:
        """DeleteActivityExecution: terminates it if it is open, then deletes everything of it."""
        namespace = self._engine.namespaces.get(request.namespace)
        self._check_activity(request)
        check_run_id(request.run_id, _BAD_RUN_ID)
        run = await find(self._engine, namespace.namespace_id, request.activity_id, request.run_id)

        def apply(state: ActivityRun, now_ns: int) -> tuple[ActivityTransition | None, None]:
            if not state.header.is_open:
                return None, None
            tx = ActivityTransition(state, now_ns)
            machine.close_terminated(tx, _DELETE_REASON, "")
            return tx, None

        await self._runs.transact(run, apply)
        await self._runs.delete(run)
        return DeleteActivityExecutionResponse()

    async def _ended(
        self, request: RequestCancelActivityExecutionRequest | TerminateActivityExecutionRequest
    ) -> RunKey:
        """The execution that a request to end it names; the request is checked."""
        namespace = self._engine.namespaces.get(request.namespace)
        self._check_activity(request)
        request.request_id = request.request_id or self._engine.runtime.new_id()
        self._check_ids(request, "request_id", "identity")
        check_run_id(request.run_id, _BAD_RUN_ID)
        if len(request.reason.encode()) > self._limits.blob_bytes:
            raise InvalidArgumentError("reason exceeds length limit")
        return await find(self._engine, namespace.namespace_id, request.activity_id, request.run_id)

    # --- checks

    def _check_activity(self, request: Any) -> None:
        check_activity(request.activity_id, self._limits.id_bytes)

    def _check_ids(self, request: Any, *names: str) -> None:
        check_ids(request, names, self._limits.id_bytes)


def check_activity(activity_id: str, limit: int) -> None:
    """Checks the activity id of a request.

    Raises:
        InvalidArgumentError: missing or too long.
    """
    if not activity_id:
        raise InvalidArgumentError("activity ID is required")
    length = len(activity_id.encode())
    if length > limit:
        raise InvalidArgumentError(f"activity ID exceeds length limit. Length={length} Limit={limit}")


def check_ids(request: Any, names: tuple[str, ...], limit: int) -> None:
    """Checks the lengths of other ids of a request.

    Raises:
        InvalidArgumentError: one is too long.
    """
    for name in names:
        length = len(getattr(request, name).encode())
        if length > limit:
            label = name.replace("_id", " ID")
            raise InvalidArgumentError(f"{label} exceeds length limit. Length={length} Limit={limit}")


def _already(current: CurrentRun) -> ActivityAlreadyStartedError:
    return ActivityAlreadyStartedError(
        "activity execution already started",
        start_request_id=current.start_request_id,
        run_id=current.run.run_id,
    )


def _started(
    request: StartActivityExecutionRequest, run_id: str, *, started: bool
) -> StartActivityExecutionResponse:
    response = StartActivityExecutionResponse(run_id=run_id, started=started)
    link = response.link.activity
    link.namespace = request.namespace
    link.activity_id = request.activity_id
    link.run_id = run_id
    return response
