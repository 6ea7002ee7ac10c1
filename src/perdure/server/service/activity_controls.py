"""RPCs of operators on pending activities of workflows: pause, unpause, reset, update options; by id, type or all.

Each exists twice on the wire: for a workflow's activities, and (newer) for activity executions, which names one by id.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from perdure.api.activity.v1 import ActivityOptions
from perdure.api.common.v1 import WorkflowExecution
from perdure.api.history.v1 import ActivityTaskScheduledEventAttributes
from perdure.api.workflowservice.v1 import (
    PauseActivityExecutionRequest,
    PauseActivityExecutionResponse,
    PauseActivityRequest,
    PauseActivityResponse,
    ResetActivityExecutionRequest,
    ResetActivityExecutionResponse,
    ResetActivityRequest,
    ResetActivityResponse,
    UnpauseActivityExecutionRequest,
    UnpauseActivityExecutionResponse,
    UnpauseActivityRequest,
    UnpauseActivityResponse,
    UpdateActivityExecutionOptionsRequest,
    UpdateActivityExecutionOptionsResponse,
    UpdateActivityOptionsRequest,
    UpdateActivityOptionsResponse,
)
from perdure.core.errors import InvalidArgumentError
from perdure.core.run import activity_control, priorities
from perdure.core.run.protos import duration_ns
from perdure.core.run.records import RunKey
from perdure.core.run.state import Activity, RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.engine import Engine, RunNotFoundError
from perdure.server.engine.histories import Histories, not_found
from perdure.server.service.call import Call
from perdure.server.service.standalone_controls import StandaloneControls, snake_case

Change = Callable[[Transition, Activity], Any]


class ActivityControls:
    """Handlers of the RPCs.

    Args:
        engine: the runs.
        histories: finds runs, and what activities were scheduled with.
    """

    def __init__(self, engine: Engine, histories: Histories) -> None:
        self._engine = engine
        self._histories = histories
        self._standalone = StandaloneControls(engine)

    # --- of a workflow's activities ---

    async def pause_activity(self, request: PauseActivityRequest, call: Call) -> PauseActivityResponse:
        """PauseActivity: keeps an activity from further attempts."""

        def change(tx: Transition, pending: Activity) -> None:
            activity_control.pause(
                tx,
                pending,
                identity=request.identity,
                reason=request.reason,
                request_id=request.request_id,
            )

        await self._change(request, change)
        return PauseActivityResponse()

    async def unpause_activity(self, request: UnpauseActivityRequest, call: Call) -> UnpauseActivityResponse:
        """UnpauseActivity: lets a paused activity go on."""
        jitter_ns = self._jitter_ns(request)

        def change(tx: Transition, pending: Activity) -> None:
            activity_control.unpause(
                tx,
                pending,
                resets_attempts=request.reset_attempts,
                resets_heartbeat=request.reset_heartbeat,
                jitter_ns=jitter_ns,
            )

        await self._change(request, change)
        return UnpauseActivityResponse()

    async def reset_activity(self, request: ResetActivityRequest, call: Call) -> ResetActivityResponse:
        """ResetActivity: begins an activity again at its first attempt."""
        jitter_ns = self._jitter_ns(request)
        originals = await self._originals(request) if request.restore_original_options else {}

        def change(tx: Transition, pending: Activity) -> None:
            activity_control.reset(
                tx,
                pending,
                resets_heartbeat=request.reset_heartbeat,
                keeps_paused=request.keep_paused,
                jitter_ns=jitter_ns,
                original=originals.get(pending.scheduled_event_id),
            )

        await self._change(request, change)
        return ResetActivityResponse()

    async def update_activity_options(
        self, request: UpdateActivityOptionsRequest, call: Call
    ) -> UpdateActivityOptionsResponse:
        """UpdateActivityOptions: changes timeouts, retry policy, queue or priority of pending activities."""
        self._engine.namespaces.get(request.namespace)
        priorities.check(request.activity_options.priority)
        _check_named(request)
        paths = {snake_case(path) for path in request.update_mask.paths}
        if request.restore_original:
            if paths:
                raise InvalidArgumentError("Both UpdateMask and RestoreOriginal are provided")
            originals = await self._originals(request)
        else:
            originals = {}
            if not request.HasField("activity_options"):
                raise InvalidArgumentError("ActivityOptions are not provided")
            if not request.HasField("update_mask"):
                raise InvalidArgumentError("UpdateMask is not provided")

        def change(tx: Transition, pending: Activity) -> ActivityOptions:
            if request.restore_original:
                original = originals.get(pending.scheduled_event_id)
                if original is None:
                    return activity_control.options(pending)
                wanted = activity_control.options_of_event(original)
                return activity_control.apply_options(tx, pending, wanted)
            return activity_control.set_options(tx, pending, request.activity_options, paths)

        changed = await self._change(request, change)
        return UpdateActivityOptionsResponse(activity_options=changed)

    # --- of activity executions ---

    async def pause_activity_execution(
        self, request: PauseActivityExecutionRequest, call: Call
    ) -> PauseActivityExecutionResponse:
        """PauseActivityExecution, of a workflow's activity or of one without a workflow."""
        if request.workflow_id:
            old = PauseActivityRequest(reason=request.reason, request_id=request.request_id)
            await self.pause_activity(_as_old(request, old), call)
        else:
            await self._standalone.pause(request)
        return PauseActivityExecutionResponse()

    async def unpause_activity_execution(
        self, request: UnpauseActivityExecutionRequest, call: Call
    ) -> UnpauseActivityExecutionResponse:
        """UnpauseActivityExecution, of a workflow's activity or of one without a workflow."""
        if request.workflow_id:
            old = UnpauseActivityRequest(jitter=request.jitter)
            await self.unpause_activity(_as_old(request, old), call)
        else:
            await self._standalone.unpause(request, self._jitter_ns(request))
        return UnpauseActivityExecutionResponse()

    async def reset_activity_execution(
        self, request: ResetActivityExecutionRequest, call: Call
    ) -> ResetActivityExecutionResponse:
        """ResetActivityExecution, of a workflow's activity or of one without a workflow."""
        if request.workflow_id:
            old = ResetActivityRequest(
                jitter=request.jitter,
                keep_paused=request.keep_paused,
                reset_heartbeat=request.reset_heartbeat,
                restore_original_options=request.restore_original_options,
            )
            await self.reset_activity(_as_old(request, old), call)
        else:
            await self._standalone.reset(request, self._jitter_ns(request))
        return ResetActivityExecutionResponse()

    async def update_activity_execution_options(
        self, request: UpdateActivityExecutionOptionsRequest, call: Call
    ) -> UpdateActivityExecutionOptionsResponse:
        """UpdateActivityExecutionOptions, of a workflow's activity or of one without a workflow."""
        if not request.workflow_id:
            options = await self._standalone.update_options(request)
            return UpdateActivityExecutionOptionsResponse(activity_options=options)
        old = UpdateActivityOptionsRequest(restore_original=request.restore_original)
        for name in ("activity_options", "update_mask"):
            if request.HasField(name):
                getattr(old, name).CopyFrom(getattr(request, name))
        changed = await self.update_activity_options(_as_old(request, old), call)
        return UpdateActivityExecutionOptionsResponse(activity_options=changed.activity_options)

    # --- which activities ---

    async def _change(self, request: Any, change: Change) -> Any:
        """Applies a change to every activity that a request names. Returns what the last one came to."""
        run = await self._run(request)

        def apply(state: RunState, now_ns: int) -> tuple[Transition, Any]:
            tx = Transition(state, now_ns)
            chosen = activity_control.chosen(tx, activity_id=request.id, activity_type=request.type)
            return tx, [change(tx, pending) for pending in chosen][-1]

        try:
            return await self._engine.transact(run, apply)
        except RunNotFoundError as error:
            raise not_found(run) from error

    async def _run(self, request: Any) -> RunKey:
        namespace = self._engine.namespaces.get(request.namespace)
        _check_named(request)
        named: WorkflowExecution = request.execution
        return await self._histories.resolve(namespace.namespace_id, named.workflow_id, named.run_id)

    async def _originals(self, request: Any) -> dict[int, ActivityTaskScheduledEventAttributes]:
        """What the activities that a request names were scheduled with, by scheduled event id."""
        run = await self._run(request)
        state = await self._histories.state(run)
        wanted = [
            pending.scheduled_event_id
            for pending in state.activities.values()
            if request.id == pending.activity_id
            or (not request.id and request.type in ("", pending.activity_type))
        ]
        return {
            event_id: (await self._histories.event(run, event_id)).activity_task_scheduled_event_attributes
            for event_id in wanted
        }

    def _jitter_ns(self, request: Any) -> int:
        """How much later than now an attempt begins: anything up to the jitter that was asked for."""
        most_ns = duration_ns(request.jitter)
        return uuid.UUID(self._engine.runtime.new_id()).int % most_ns if most_ns > 0 else 0


def _check_named(request: Any) -> None:
    if not request.execution.workflow_id:
        raise InvalidArgumentError("WorkflowId is not set on request.")
    if request.WhichOneof("activity") is None:
        raise InvalidArgumentError("Either Activity.Id or Activity.Type should be set on request.")


def _as_old(request: Any, old: Any) -> Any:
    """The older form of a request on an activity execution, which names a workflow."""
    if not request.activity_id:
        raise InvalidArgumentError("activity ID is required")
    old.namespace = request.namespace
    old.execution.workflow_id = request.workflow_id
    old.execution.run_id = request.run_id
    old.id = request.activity_id
    old.identity = request.identity
    return old
