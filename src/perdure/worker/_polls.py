"""The polls of one worker: which task queues, how many, and with which requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure.api.enums.v1 import TaskQueueKind
from perdure.api.taskqueue.v1 import TaskQueue, TaskQueueMetadata
from perdure.api.workflowservice.v1 import (
    PollActivityTaskQueueRequest,
    PollActivityTaskQueueResponse,
    PollNexusTaskQueueRequest,
    PollNexusTaskQueueResponse,
    PollWorkflowTaskQueueRequest,
    PollWorkflowTaskQueueResponse,
)
from perdure.worker._poller_behavior import (
    DEFAULT_POLLER_BEHAVIOR,
    PollerBehavior,
    PollerBehaviorAutoscaling,
    PollerBehaviorSimpleMaximum,
)
from perdure.worker._pollers import PollBalance, PollerGroup, PollerScaler
from perdure.worker._rate import RateLimit
from perdure.worker._tuning import DEFAULT_SLOTS
from perdure.worker._workflow_answers import sticky_task_queue

if TYPE_CHECKING:
    from perdure.worker._activity_worker import ActivityWorker
    from perdure.worker._config import WorkerConfig
    from perdure.worker._environment import Environment
    from perdure.worker._nexus_worker import NexusWorker
    from perdure.worker._slots import Slots
    from perdure.worker._workflow_worker import WorkflowWorker

# A server answers a long poll after 60 seconds at the latest.
_POLL_TIMEOUT = timedelta(seconds=70)
_MOST_POLLS = DEFAULT_SLOTS * 2 // 5
"""Of a queue, unless the user says how many. Each holds a slot: two queues at their most leave a fifth of the slots for
first tasks that come with the answers to starts."""


def workflow_pollers(
    environment: Environment,
    config: WorkerConfig,
    worker: WorkflowWorker,
    slots: Slots,
    sticky_queue: str | None,
) -> list[PollerGroup[PollWorkflowTaskQueueResponse]]:
    """Return the polls of the task queue and, with a cache, of the worker's own queue."""
    behavior = _behavior(
        config.get("max_concurrent_workflow_task_polls"), config.get("workflow_task_poller_behavior")
    )
    queue = environment.task_queue
    normal = TaskQueue(name=queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL)
    name = f"workflow tasks of {queue}"
    make = partial(_workflow_group, is_autoscaling=isinstance(behavior, PollerBehaviorAutoscaling))
    if sticky_queue is None:
        scaler = _scaler(behavior)
        return [make(environment, name, normal, worker, slots, scaler)]
    normal_count: int | None = None
    sticky_count: int | None = None
    if isinstance(behavior, PollerBehaviorSimpleMaximum):
        ratio = config.get("nonsticky_to_sticky_poll_ratio", 0.2)
        normal_count = max(1, int(behavior.maximum * ratio))
        sticky_count = max(1, behavior.maximum - normal_count)
    sticky = sticky_task_queue(sticky_queue, queue)
    balance = PollBalance()
    return [
        make(environment, name, normal, worker, slots, _scaler(behavior, normal_count), balance),
        make(
            environment,
            f"this worker's own {name}",
            sticky,
            worker,
            slots,
            _scaler(behavior, sticky_count),
            balance,
        ),
    ]


def _scaler(behavior: PollerBehavior, count: int | None = None) -> PollerScaler:
    if isinstance(behavior, PollerBehaviorAutoscaling):
        return PollerScaler(behavior.minimum, behavior.maximum, behavior.initial)
    number = behavior.maximum if count is None else count
    if behavior is DEFAULT_POLLER_BEHAVIOR:
        return PollerScaler(number, _MOST_POLLS, number, follows_load=True)
    return PollerScaler(number, number, number)


def _workflow_group(
    environment: Environment,
    name: str,
    queue: TaskQueue,
    worker: WorkflowWorker,
    slots: Slots,
    scaler: PollerScaler,
    balance: PollBalance | None = None,
    *,
    is_autoscaling: bool,
) -> PollerGroup[PollWorkflowTaskQueueResponse]:
    is_sticky = queue.kind == TaskQueueKind.TASK_QUEUE_KIND_STICKY
    poller_type = "sticky_workflow_task" if is_sticky else "workflow_task"
    request = PollWorkflowTaskQueueRequest(task_queue=queue, **_common(environment))
    return PollerGroup(
        "Workflow",
        name,
        poll=lambda: environment.service.poll_workflow_task_queue(request, timeout=_POLL_TIMEOUT),
        handle=worker.take,
        slots=slots,
        scaler=scaler,
        is_sticky=is_sticky,
        balance=balance,
        suggestion=_suggestion,
        on_count=_counter(environment, poller_type),
        on_answer=_measure(environment, poller_type),
        is_autoscaling=is_autoscaling,
    )


def activity_pollers(
    environment: Environment, config: WorkerConfig, worker: ActivityWorker
) -> list[PollerGroup[PollActivityTaskQueueResponse]]:
    """Return the polls for activities."""
    behavior = _behavior(
        config.get("max_concurrent_activity_task_polls"), config.get("activity_task_poller_behavior")
    )
    metadata = None
    queue_rate = config.get("max_task_queue_activities_per_second")
    if queue_rate is not None:
        metadata = TaskQueueMetadata()
        metadata.max_tasks_per_second.value = queue_rate
    request = PollActivityTaskQueueRequest(
        task_queue=TaskQueue(name=environment.task_queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        task_queue_metadata=metadata,
        **_common(environment),
    )
    rate = config.get("max_activities_per_second")
    return [
        PollerGroup(
            "Activity",
            f"activities of {environment.task_queue}",
            poll=lambda: environment.service.poll_activity_task_queue(request, timeout=_POLL_TIMEOUT),
            handle=worker.take,
            slots=worker.slots,
            scaler=_scaler(behavior),
            before_poll=RateLimit(rate).wait if rate is not None else None,
            suggestion=_suggestion,
            on_count=_counter(environment, "activity_task"),
            on_answer=_measure(environment, "activity_task"),
            is_autoscaling=isinstance(behavior, PollerBehaviorAutoscaling),
        )
    ]


def nexus_pollers(
    environment: Environment, config: WorkerConfig, worker: NexusWorker
) -> list[PollerGroup[PollNexusTaskQueueResponse]]:
    """Return the polls for Nexus tasks."""
    behavior = _behavior(None, config.get("nexus_task_poller_behavior"))
    request = PollNexusTaskQueueRequest(
        task_queue=TaskQueue(name=environment.task_queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        **_common(environment),
    )
    return [
        PollerGroup(
            "Nexus",
            f"Nexus tasks of {environment.task_queue}",
            poll=lambda: environment.service.poll_nexus_task_queue(request, timeout=_POLL_TIMEOUT),
            handle=worker.take,
            slots=worker.slots,
            scaler=_scaler(behavior),
            suggestion=_suggestion,
            on_count=_counter(environment, "nexus_task"),
            on_answer=_measure(environment, "nexus_task"),
            is_autoscaling=isinstance(behavior, PollerBehaviorAutoscaling),
        )
    ]


def _counter(environment: Environment, poller_type: str) -> Callable[[int], None] | None:
    metrics = environment.metrics
    return None if metrics is None else partial(metrics.polling, poller_type)


def _measure(environment: Environment, poller_type: str) -> Callable[[Any, bool], None] | None:
    metrics = environment.metrics
    if metrics is None:
        return None
    record = metrics.polled

    def measure(answer: Any, has_task: bool) -> None:
        record(poller_type, _waited_s(answer) if has_task else None)

    return measure


def _waited_s(answer: Any) -> float:
    """How long a task was there before a worker got it; a retry of an activity waits from its own time on."""
    if isinstance(answer, PollNexusTaskQueueResponse):
        return time.time() - answer.request.scheduled_time.ToNanoseconds() / 1e9
    is_activity = isinstance(answer, PollActivityTaskQueueResponse)
    scheduled = answer.current_attempt_scheduled_time if is_activity else answer.scheduled_time
    waited_ns: int = answer.started_time.ToNanoseconds() - scheduled.ToNanoseconds()
    return waited_ns / 1e9


def _behavior(maximum: int | None, behavior: PollerBehavior | None) -> PollerBehavior:
    if maximum:
        return PollerBehaviorSimpleMaximum(maximum)
    return behavior or DEFAULT_POLLER_BEHAVIOR


def _common(environment: Environment) -> dict[str, Any]:
    common: dict[str, Any] = {
        "namespace": environment.namespace,
        "identity": environment.identity,
        "worker_instance_key": environment.instance_key,
        "worker_version_capabilities": environment.version_stamp,
    }
    if environment.deployment is not None:
        common["deployment_options"] = environment.deployment
    return common


def _suggestion(
    answer: PollWorkflowTaskQueueResponse | PollActivityTaskQueueResponse | PollNexusTaskQueueResponse,
) -> int | None:
    if not answer.HasField("poller_scaling_decision"):
        return None
    return answer.poller_scaling_decision.poll_request_delta_suggestion


__all__ = ["activity_pollers", "nexus_pollers", "workflow_pollers"]
