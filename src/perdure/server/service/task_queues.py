"""RPCs on task queues: describe, list partitions."""

from __future__ import annotations

from perdure.api.enums.v1 import DescribeTaskQueueMode, RateLimitSource, TaskQueueType
from perdure.api.taskqueue.v1 import PollerInfo, TaskQueueStats
from perdure.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    ListTaskQueuePartitionsRequest,
    ListTaskQueuePartitionsResponse,
)
from perdure.core.run.protos import set_duration, set_timestamp
from perdure.core.run.records import QueueKey, TaskKind
from perdure.server.engine.engine import Engine
from perdure.server.service import checks
from perdure.server.service.call import Call

_ACTIVITY = TaskQueueType.Value("TASK_QUEUE_TYPE_ACTIVITY")
_NEXUS = TaskQueueType.Value("TASK_QUEUE_TYPE_NEXUS")
_WORKFLOW = TaskQueueType.Value("TASK_QUEUE_TYPE_WORKFLOW")
_KINDS = {_WORKFLOW: TaskKind.WORKFLOW, _ACTIVITY: TaskKind.ACTIVITY, _NEXUS: TaskKind.NEXUS}
_ENHANCED = DescribeTaskQueueMode.Value("DESCRIBE_TASK_QUEUE_MODE_ENHANCED")
_SET_BY_WORKER = RateLimitSource.Value("RATE_LIMIT_SOURCE_WORKER")
_POLLS_PER_SECOND = 100_000.0


class TaskQueues:
    """Handlers of the RPCs on task queues."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def describe_task_queue(
        self, request: DescribeTaskQueueRequest, call: Call
    ) -> DescribeTaskQueueResponse:
        """DescribeTaskQueue: recent pollers, and the backlog when statistics are asked for."""
        namespace = self._engine.namespaces.get(request.namespace)
        queue = request.task_queue if request.HasField("task_queue") else None
        name = checks.task_queue(queue, self._engine.limits.run)
        if request.api_mode == _ENHANCED:
            return await self._describe_enhanced(namespace.namespace_id, name, request)
        response = DescribeTaskQueueResponse()
        kinds = [request.task_queue_type, *request.task_queue_types]
        asked = [_KINDS[kind] for kind in dict.fromkeys(kinds) if kind in _KINDS] or [TaskKind.WORKFLOW]
        key = QueueKey(namespace.namespace_id, name, asked[0])
        response.pollers.extend(self._pollers(key))
        per_second = self._engine.matching.limit_of(key)
        if per_second is not None:
            response.effective_rate_limit.requests_per_second = per_second
            response.effective_rate_limit.rate_limit_source = _SET_BY_WORKER
        if request.report_stats or request.include_task_queue_status:
            stats = await self._stats(key)
            response.stats.CopyFrom(stats)
            if request.include_task_queue_status:
                response.task_queue_status.backlog_count_hint = stats.approximate_backlog_count
        return response

    async def _describe_enhanced(
        self, namespace_id: str, name: str, request: DescribeTaskQueueRequest
    ) -> DescribeTaskQueueResponse:
        """The mode that the official command uses: tasks of workflows and activities, by version (there is one)."""
        response = DescribeTaskQueueResponse()
        unversioned = response.versions_info[""]
        for number in dict.fromkeys(request.task_queue_types or (_WORKFLOW, _ACTIVITY)):
            if number not in _KINDS:
                continue
            key = QueueKey(namespace_id, name, _KINDS[number])
            described = unversioned.types_info[number]
            described.pollers.extend(self._pollers(key))
            described.stats.CopyFrom(await self._stats(key))
        return response

    def _pollers(self, key: QueueKey) -> list[PollerInfo]:
        pollers = []
        for identity, seen_ns in self._engine.matching.recent_pollers(key):
            poller = PollerInfo(identity=identity, rate_per_second=_POLLS_PER_SECOND)
            set_timestamp(poller.last_access_time, seen_ns)
            pollers.append(poller)
        return pollers

    async def _stats(self, key: QueueKey) -> TaskQueueStats:
        count, oldest_ns = await self._engine.reading(self._engine.store.count_tasks(key))
        stats = TaskQueueStats(approximate_backlog_count=count)
        age_ns = max(self._engine.runtime.now_ns() - oldest_ns, 0) if oldest_ns is not None else 0
        set_duration(stats.approximate_backlog_age, age_ns)
        return stats

    async def list_task_queue_partitions(
        self, request: ListTaskQueuePartitionsRequest, call: Call
    ) -> ListTaskQueuePartitionsResponse:
        """ListTaskQueuePartitions: a task queue here is one partition."""
        self._engine.namespaces.get(request.namespace)
        name = checks.task_queue(
            request.task_queue if request.HasField("task_queue") else None, self._engine.limits.run
        )
        response = ListTaskQueuePartitionsResponse()
        response.workflow_task_queue_partitions.add(key=name, owner_host_name="perdure")
        response.activity_task_queue_partitions.add(key=name, owner_host_name="perdure")
        return response
