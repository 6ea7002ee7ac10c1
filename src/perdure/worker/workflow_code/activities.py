"""Activities and local activities, from the side of the workflow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from perdure.activity import _Definition as ActivityDefinition
from perdure.api.command.v1 import ScheduleActivityTaskCommandAttributes
from perdure.core.invariant import present
from perdure.core.replay.activation import ResolveActivity
from perdure.core.replay.instructions import (
    RequestCancelActivity,
    RequestCancelLocalActivity,
    ScheduleActivity,
    ScheduleLocalActivity,
)
from perdure.worker.interceptor_workflow import StartActivityInput, StartLocalActivityInput
from perdure.worker.workflow_code.conversion import Conversion, set_duration
from perdure.worker.workflow_code.logic_flags import LogicFlag
from perdure.worker.workflow_code.loop import InOrder
from perdure.worker.workflow_code.operations import await_operation
from perdure.workflow import ActivityHandle, VersioningIntent

if TYPE_CHECKING:
    from perdure.worker.workflow_code.instance import WorkflowInstance

_DEFAULT_LOCAL_RETRY_THRESHOLD_S = 60.0


class _RetryLaterError(BaseException):
    """A local activity is to be tried again after a timer; never leaves this module."""

    def __init__(self, job: ResolveActivity) -> None:
        super().__init__("Backoff")
        self.job = job


class Activities:
    """The activities that a workflow has started."""

    __slots__ = ("_instance", "_pending")

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._pending: dict[int, _ActivityTask] = {}

    def start(self, input: StartActivityInput | StartLocalActivityInput) -> ActivityHandle[Any]:
        """Asks for an activity.

        Raises:
            ValueError: it has no timeout.
        """
        if not input.start_to_close_timeout and not input.schedule_to_close_timeout:
            raise ValueError("Activity must have start_to_close_timeout or schedule_to_close_timeout")
        self._instance.recorder.check_writable("start activity")
        task = _ActivityTask(self._instance, self, input)
        self._pending[task.seq] = task
        return task

    def resolve(self, job: ResolveActivity) -> None:
        """An activity has ended, or a local one is to be tried again later."""
        task = self._pending.pop(job.seq, None)
        present(task, "an activity that nobody waits for has ended", seq=job.seq).resolve(job)

    def wait_again(self, task: _ActivityTask) -> None:
        """A local activity was asked for again, under a new number."""
        self._pending[task.seq] = task


def definition_of(activity: Any) -> tuple[str, list[type] | None, type | None]:
    """Name, types of the arguments and type of the result of what a user called an activity.

    Raises:
        TypeError: it is neither a name nor something that can be called and is decorated.
        ValueError: it is a dynamic activity.
    """
    if isinstance(activity, str):
        return activity, None, None
    if not callable(activity):
        raise TypeError("Activity must be a string or callable")
    definition = ActivityDefinition.must_from_callable(activity)
    if not definition.name:
        raise ValueError("Cannot invoke dynamic activity explicitly")
    return definition.name, definition.arg_types, definition.ret_type


class _ActivityTask(InOrder, ActivityHandle[Any]):
    """The task that waits for one activity."""

    def __init__(
        self,
        instance: WorkflowInstance,
        activities: Activities,
        input: StartActivityInput | StartLocalActivityInput,
    ) -> None:
        self.seq = instance.recorder.next_seq("activity")
        self._instance = instance
        self._activities = activities
        self._input = input
        self._is_waiting = False
        self._conversion = self._new_conversion()
        self._outcome: asyncio.Future[Any] = asyncio.Future(loop=instance.loop)
        self._attributes = self._new_attributes()
        self._schedule()
        self.hash_in_order = instance.loop.next_hash()
        super().__init__(
            self._wait(), loop=instance.loop, name=instance.loop.task_name(f"activity: {input.activity}")
        )
        instance.loop.keep(self)

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancels the activity: asks for it even if this task has not begun to wait."""
        recorder = self._instance.recorder
        if not recorder.is_evicting:
            recorder.check_writable("cancel activity handle")
            # A task that is cancelled before its first step never runs, so it could not ask by itself.
            if not self._is_waiting and not self.done():
                self._request_cancel()
        return super().cancel(msg)

    def resolve(self, job: ResolveActivity) -> None:
        """The activity has ended, or is to be tried again later."""
        if job.backoff_s is not None:
            self.seq = self._instance.recorder.next_seq("activity")
            self._outcome.set_exception(_RetryLaterError(job))
            self._outcome = asyncio.Future(loop=self._instance.loop)
            self._is_waiting = False
        elif job.failure is not None:
            # Nobody would ever look at the error of a task that was cancelled before its first step.
            if self._is_waiting:
                self._outcome.set_exception(self._conversion.from_failure(job.failure))
        else:
            self._outcome.set_result(self._conversion.from_result(job.result, self._input.ret_type))

    async def _wait(self) -> Any:
        while True:
            self._is_waiting = True
            try:
                return await await_operation(
                    self._instance,
                    self._outcome,
                    lambda _: self._request_cancel(),
                    completed_flag=LogicFlag.RAISE_ON_CANCELLING_COMPLETED_ACTIVITY,
                )
            except _RetryLaterError as again:
                await asyncio.sleep(again.job.backoff_s or 0)
                self._schedule(again.job)
                self._activities.wait_again(self)

    def _request_cancel(self) -> None:
        request = (
            RequestCancelActivity
            if isinstance(self._input, StartActivityInput)
            else RequestCancelLocalActivity
        )
        self._instance.recorder.add(request(self.seq))

    def _new_conversion(self) -> Conversion:
        given, info = self._input, self._instance.info
        is_local = isinstance(given, StartLocalActivityInput)
        queue = info.task_queue if isinstance(given, StartLocalActivityInput) else given.task_queue
        return self._instance.conversions.for_activity(
            given.activity, given.activity_id, queue or info.task_queue, is_local=is_local
        )

    def _new_attributes(self) -> ScheduleActivityTaskCommandAttributes:
        given, own_queue = self._input, self._instance.info.task_queue
        attributes = ScheduleActivityTaskCommandAttributes(
            activity_id=given.activity_id or str(self.seq), input=self._conversion.to_payloads(given.args)
        )
        attributes.activity_type.name = given.activity
        for name, payload in given.headers.items():
            attributes.header.fields[name].CopyFrom(payload)
        # A message's field is made by looking at it: what is not given is not looked at.
        if given.schedule_to_close_timeout:
            set_duration(attributes.schedule_to_close_timeout, given.schedule_to_close_timeout)
        if given.schedule_to_start_timeout:
            set_duration(attributes.schedule_to_start_timeout, given.schedule_to_start_timeout)
        if given.start_to_close_timeout:
            set_duration(attributes.start_to_close_timeout, given.start_to_close_timeout)
        if given.retry_policy:
            given.retry_policy.apply_to_proto(attributes.retry_policy)
        if isinstance(given, StartActivityInput):
            queue = given.task_queue or own_queue
            attributes.task_queue.name = queue
            if given.heartbeat_timeout:
                set_duration(attributes.heartbeat_timeout, given.heartbeat_timeout)
            attributes.request_eager_execution = not given.disable_eager_execution and queue == own_queue
            attributes.use_workflow_build_id = keeps_build_id(given.versioning_intent, queue, own_queue)
            if given.priority is not None:
                attributes.priority.CopyFrom(given.priority._to_proto())
        return attributes

    def _schedule(self, again: ResolveActivity | None = None) -> None:
        given, recorder = self._input, self._instance.recorder
        metadata = self._conversion.metadata(given.summary)
        if isinstance(given, StartActivityInput):
            recorder.add(
                ScheduleActivity(
                    self.seq, self._attributes, int(given.cancellation_type), metadata, recorder.source()
                )
            )
            return
        threshold = given.local_retry_threshold
        local = ScheduleLocalActivity(
            self.seq,
            self._attributes,
            local_retry_threshold_s=threshold.total_seconds()
            if threshold
            else _DEFAULT_LOCAL_RETRY_THRESHOLD_S,
            cancellation=int(given.cancellation_type),
            metadata=metadata,
            source=recorder.source(),
        )
        if again is not None:
            local.attempt = again.attempt
            local.original_schedule_time_ns = again.original_schedule_time_ns
            if not given.activity_id:
                self._attributes.activity_id = str(self.seq)
        recorder.add(local)


def keeps_build_id(intent: VersioningIntent | None, queue: str, own_queue: str) -> bool:
    """Whether what is started should run on a build that is compatible with the workflow's."""
    if intent is None:
        return queue == own_queue
    return intent is VersioningIntent.COMPATIBLE
