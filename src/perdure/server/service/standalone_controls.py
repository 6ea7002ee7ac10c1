"""What operators ask of standalone activities: pause, unpause, reset, change options. Requests are checked here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from perdure.api.activity.v1 import ActivityOptions
from perdure.api.workflowservice.v1 import (
    PauseActivityExecutionRequest,
    ResetActivityExecutionRequest,
    UnpauseActivityExecutionRequest,
    UpdateActivityExecutionOptionsRequest,
)
from perdure.core.activity import control
from perdure.core.activity.state import ActivityRun, ActivityTransition
from perdure.core.errors import InvalidArgumentError
from perdure.core.run import priorities
from perdure.core.run.protos import cap_duration, checked_duration_ns
from perdure.core.run.records import RunKey
from perdure.server.engine.engine import Engine
from perdure.server.service import checks
from perdure.server.service.activity_answers import find
from perdure.server.service.standalone_activities import check_activity, check_ids

_PATHS = frozenset(
    {
        "task_queue.name",
        "schedule_to_close_timeout",
        "schedule_to_start_timeout",
        "start_to_close_timeout",
        "heartbeat_timeout",
        "priority",
        "priority.priority_key",
        "priority.fairness_key",
        "priority.fairness_weight",
        "retry_policy",
        "retry_policy.initial_interval",
        "retry_policy.backoff_coefficient",
        "retry_policy.maximum_interval",
        "retry_policy.maximum_attempts",
        "start_delay",
    }
)
"""Paths of options that can be changed."""
_DURATIONS = {
    "schedule_to_close_timeout": "ScheduleToCloseTimeout",
    "schedule_to_start_timeout": "ScheduleToStartTimeout",
    "start_to_close_timeout": "StartToCloseTimeout",
    "heartbeat_timeout": "HeartbeatTimeout",
    "start_delay": "StartDelay",
}


class StandaloneControls:
    """Checks and applies operators' requests.

    Args:
        engine: whose activities.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._limits = engine.limits.run

    async def pause(self, request: PauseActivityExecutionRequest) -> None:
        """Keeps an execution from further attempts."""
        run = await self._named(request)
        if len(request.reason.encode()) > self._limits.blob_bytes:
            raise InvalidArgumentError("reason exceeds length limit")
        await self._change(
            run,
            lambda tx: control.pause(
                tx, request_id=request.request_id, identity=request.identity, reason=request.reason
            ),
        )

    async def unpause(self, request: UnpauseActivityExecutionRequest, jitter_ns: int) -> None:
        """Lets a paused execution go on."""
        run = await self._named(request)
        checked_duration_ns(request.jitter, "jitter")
        await self._change(
            run, lambda tx: control.unpause(tx, request_id=request.request_id, jitter_ns=jitter_ns)
        )

    async def reset(self, request: ResetActivityExecutionRequest, jitter_ns: int) -> None:
        """Begins an execution again at its first attempt."""
        run = await self._named(request)
        checked_duration_ns(request.jitter, "jitter")
        await self._change(
            run,
            lambda tx: control.reset(
                tx,
                request_id=request.request_id,
                keeps_paused=request.keep_paused,
                clears_heartbeat=request.reset_heartbeat,
                restores_options=request.restore_original_options,
                jitter_ns=jitter_ns,
            ),
        )

    async def update_options(self, request: UpdateActivityExecutionOptionsRequest) -> ActivityOptions:
        """Changes options of an execution. Returns all as they are now."""
        run = await self._named(request)
        paths = {snake_case(path) for path in request.update_mask.paths}
        if paths and request.restore_original:
            raise InvalidArgumentError("Both UpdateMask and RestoreOriginal are provided")
        if not request.restore_original:
            self._check_options(request, paths)

        def apply(state: ActivityRun, now_ns: int) -> tuple[ActivityTransition, ActivityOptions]:
            tx = ActivityTransition(state, now_ns)
            control.set_options(
                tx,
                request.request_id,
                request.activity_options,
                paths,
                restores=request.restore_original,
            )
            return tx, control.options(tx.header)

        return await self._engine.activity_runs.transact(run, apply)

    def _check_options(self, request: UpdateActivityExecutionOptionsRequest, paths: set[str]) -> None:
        if not request.HasField("activity_options"):
            raise InvalidArgumentError("ActivityOptions are not provided")
        if not request.HasField("update_mask"):
            raise InvalidArgumentError("UpdateMask is not provided")
        if not paths:
            raise InvalidArgumentError("UpdateMask must specify at least one path")
        for path in request.update_mask.paths:
            if snake_case(path) not in _PATHS:
                raise InvalidArgumentError(f'unsupported update_mask path: "{path}"')
        options = request.activity_options
        if "task_queue.name" in paths:
            checks.task_queue(options.task_queue if options.HasField("task_queue") else None, self._limits)
        for name, label in _DURATIONS.items():
            if name in paths:
                cap_duration(getattr(options, name), label)
        if any(path.startswith("priority") for path in paths):
            priorities.check(options.priority)

    async def _named(self, request: Any) -> RunKey:
        """The execution that a request names; the request is checked."""
        namespace = self._engine.namespaces.get(request.namespace)
        limit = self._limits.id_bytes
        request.request_id = request.request_id or self._engine.runtime.new_id()
        check_ids(request, ("request_id",), limit)
        check_activity(request.activity_id, limit)
        check_ids(request, ("identity",), limit)
        if request.run_id and not checks.is_uuid(request.run_id):
            raise InvalidArgumentError("invalid run id: must be a valid UUID")
        return await find(self._engine, namespace.namespace_id, request.activity_id, request.run_id)

    async def _change(self, run: RunKey, change: Callable[[ActivityTransition], None]) -> None:
        def apply(state: ActivityRun, now_ns: int) -> tuple[ActivityTransition, None]:
            tx = ActivityTransition(state, now_ns)
            change(tx)
            return tx, None

        await self._engine.activity_runs.transact(run, apply)


def snake_case(path: str) -> str:
    """A field mask's path in the words of the message, also when it came in those of JSON."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", path).lower()
