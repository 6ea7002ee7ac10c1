"""RPCs on task queues: describe, configure, list partitions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from perdure.api.enums.v1 import (
    BuildIdTaskReachability,
    DescribeTaskQueueMode,
    RateLimitSource,
    TaskQueueKind,
    TaskQueueType,
)
from perdure.api.taskqueue.v1 import PollerInfo, TaskQueueStats, TaskQueueVersioningInfo
from perdure.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    ListTaskQueuePartitionsRequest,
    ListTaskQueuePartitionsResponse,
    UpdateTaskQueueConfigRequest,
    UpdateTaskQueueConfigResponse,
)
from perdure.core.deployment.routes import UNVERSIONED, dotted, queue_name, split_version, version_message
from perdure.core.errors import InvalidArgumentError
from perdure.core.queues import config as queue_config
from perdure.core.run.protos import set_duration, set_timestamp
from perdure.core.run.records import QueueKey, TaskKind
from perdure.server.deployments import Deployments
from perdure.server.engine.backlog import DEFAULT_LEVEL
from perdure.server.engine.engine import Engine
from perdure.server.queue_configs import QueueConfigs
from perdure.server.service import checks
from perdure.server.service.call import Call

_ACTIVITY = TaskQueueType.Value("TASK_QUEUE_TYPE_ACTIVITY")
_NEXUS = TaskQueueType.Value("TASK_QUEUE_TYPE_NEXUS")
_WORKFLOW = TaskQueueType.Value("TASK_QUEUE_TYPE_WORKFLOW")
_KINDS = {_WORKFLOW: TaskKind.WORKFLOW, _ACTIVITY: TaskKind.ACTIVITY, _NEXUS: TaskKind.NEXUS}
_ENHANCED = DescribeTaskQueueMode.Value("DESCRIBE_TASK_QUEUE_MODE_ENHANCED")
_STICKY = TaskQueueKind.Value("TASK_QUEUE_KIND_STICKY")
_SET_BY_API = RateLimitSource.Value("RATE_LIMIT_SOURCE_API")
_SET_BY_WORKER = RateLimitSource.Value("RATE_LIMIT_SOURCE_WORKER")
_REACHABLE = BuildIdTaskReachability.Value("BUILD_ID_TASK_REACHABILITY_REACHABLE")
_UNREACHABLE = BuildIdTaskReachability.Value("BUILD_ID_TASK_REACHABILITY_UNREACHABLE")
_POLLS_PER_SECOND = 100_000.0
_MAX_REACHABILITY_BUILD_IDS = 5
_NEVER_NS = -62_135_596_800 * 1_000_000_000
"""The first moment that a timestamp can name, for what never happened."""


@dataclass(frozen=True, slots=True)
class _Level:
    """What is known of the tasks of one priority."""

    count: int = 0
    oldest_ns: int | None = None
    added_per_s: float = 0.0
    given_out_per_s: float = 0.0

    def plus(self, other: _Level) -> _Level:
        times = [level.oldest_ns for level in (self, other) if level.oldest_ns is not None]
        return _Level(
            self.count + other.count,
            min(times, default=None),
            self.added_per_s + other.added_per_s,
            self.given_out_per_s + other.given_out_per_s,
        )


class TaskQueues:
    """Handlers of the RPCs on task queues."""

    def __init__(self, engine: Engine, configs: QueueConfigs, deployments: Deployments) -> None:
        self._engine = engine
        self._configs = configs
        self._deployments = deployments

    async def describe_task_queue(
        self, request: DescribeTaskQueueRequest, call: Call
    ) -> DescribeTaskQueueResponse:
        """DescribeTaskQueue: pollers, versions, limits; the backlog and the configuration when they are asked for."""
        namespace = self._engine.namespaces.get(request.namespace)
        queue = request.task_queue if request.HasField("task_queue") else None
        name = checks.task_queue(queue, self._engine.limits.run)
        if request.api_mode == _ENHANCED:
            return await self._describe_enhanced(namespace.namespace_id, name, request)
        response = DescribeTaskQueueResponse()
        key = QueueKey(namespace.namespace_id, name, _KINDS.get(request.task_queue_type, TaskKind.WORKFLOW))
        parts = self._parts(key)
        for part in parts:
            response.pollers.extend(self._pollers(part))
        if request.task_queue.kind != _STICKY:
            response.versioning_info.CopyFrom(self._versions(key))
        per_second = self._show_limit(key, response)
        if request.report_config and (config := self._configs.find(key)) is not None:
            response.config.CopyFrom(queue_config.message(config))
        if request.report_stats or request.include_task_queue_status:
            levels = await self._levels(parts)
            stats = self._stats(levels.values())
            if request.report_stats:
                response.stats.CopyFrom(stats)
                for level, known in levels.items():
                    response.stats_by_priority_key[level].CopyFrom(self._stats((known,)))
            if request.include_task_queue_status:
                response.task_queue_status.backlog_count_hint = stats.approximate_backlog_count
                response.task_queue_status.rate_per_second = per_second
        return response

    async def _describe_enhanced(
        self, namespace_id: str, name: str, request: DescribeTaskQueueRequest
    ) -> DescribeTaskQueueResponse:
        """The older mode: tasks of workflows and activities, by build id. Only workers without version have one here;
        what has a version is described by its deployment."""
        build_ids = tuple(request.versions.build_ids)
        if request.report_task_reachability and len(build_ids) > _MAX_REACHABILITY_BUILD_IDS:
            raise InvalidArgumentError(
                "Too many build ids queried at once with ReportTaskReachability==true, limit: "
                f"{_MAX_REACHABILITY_BUILD_IDS}"
            )
        if request.task_queue.kind == _STICKY:
            raise InvalidArgumentError(
                "Enhanced DescribeTaskQueue is not valid for a sticky queue, use api_mode=UNSPECIFIED or a normal "
                "queue."
            )
        response = DescribeTaskQueueResponse()
        chosen = request.versions
        is_default = not request.HasField("versions") or chosen.unversioned
        for build_id in dict.fromkeys((*build_ids, *(("",) if is_default else ()))):
            info = response.versions_info[build_id]
            for number in dict.fromkeys(request.task_queue_types or (_WORKFLOW, _ACTIVITY)):
                if number not in _KINDS:
                    continue
                described = info.types_info[number]
                key = QueueKey(namespace_id, name, _KINDS[number])
                if request.report_pollers and not build_id:
                    described.pollers.extend(self._pollers(key))
                if request.report_stats:
                    levels = await self._levels(() if build_id else (key,))
                    described.stats.CopyFrom(self._stats(levels.values()))
            if request.report_task_reachability:
                info.task_reachability = _UNREACHABLE if build_id else _REACHABLE
        return response

    def _parts(self, key: QueueKey) -> tuple[QueueKey, ...]:
        """The queue itself and its parts for each version that was polled on it."""
        routes = self._deployments.routes(key.namespace_id)
        versions = [version for version in routes.members if routes.has(version, key.name, key.kind)]
        return tuple(key._replace(name=queue_name(key.name, version)) for version in (UNVERSIONED, *versions))

    def _pollers(self, key: QueueKey) -> list[PollerInfo]:
        pollers = []
        for seen in self._engine.matching.recent_pollers(key):
            rate = seen.options.per_second
            poller = PollerInfo(
                identity=seen.identity, rate_per_second=_POLLS_PER_SECOND if rate is None else rate
            )
            set_timestamp(poller.last_access_time, seen.seen_ns)
            if seen.options.capabilities is not None:
                poller.worker_version_capabilities.CopyFrom(seen.options.capabilities)
            if seen.options.deployment is not None:
                poller.deployment_options.CopyFrom(seen.options.deployment)
            pollers.append(poller)
        return pollers

    def _versions(self, key: QueueKey) -> TaskQueueVersioningInfo:
        """Which versions the queue's tasks go to."""
        route = self._deployments.routes(key.namespace_id).route(key.name, key.kind)
        info = TaskQueueVersioningInfo(current_version=dotted(route.current))
        changed_ns = _NEVER_NS
        if route.current:
            info.current_deployment_version.CopyFrom(version_message(route.current))
            found = self._deployments.find(key.namespace_id, split_version(route.current)[0])
            changed_ns = found.current_changed_ns if found is not None else changed_ns
        if route.ramping or route.percentage:
            info.ramping_version = dotted(route.ramping)
            info.ramping_version_percentage = route.percentage
            if route.ramping:
                info.ramping_deployment_version.CopyFrom(version_message(route.ramping))
            changed_ns = max(changed_ns, self._ramped_ns(key, route.ramping or route.current))
        set_timestamp(info.update_time, changed_ns)
        return info

    def _ramped_ns(self, key: QueueKey, version: str) -> int:
        found = self._deployments.find(key.namespace_id, split_version(version)[0])
        return found.percentage_changed_ns if found is not None else _NEVER_NS

    def _show_limit(self, key: QueueKey, response: DescribeTaskQueueResponse) -> float:
        limits = self._engine.matching.limits_of(key)
        if limits is None or limits.queue is None:
            return _POLLS_PER_SECOND
        shown = response.effective_rate_limit
        shown.requests_per_second = limits.queue.per_second
        shown.rate_limit_source = _SET_BY_API if limits.is_of_operator else _SET_BY_WORKER
        return limits.queue.per_second

    async def _levels(self, parts: Iterable[QueueKey]) -> Mapping[int, _Level]:
        """What waits and what goes, by priority; the default one is always there."""
        levels = {DEFAULT_LEVEL: _Level()}
        for part in parts:
            for row in await self._engine.reading(self._engine.store.count_tasks(part)):
                known = levels.get(row.priority, _Level())
                levels[row.priority] = known.plus(_Level(row.waiting, row.oldest_ns))
            for level, (added, gone) in self._engine.matching.rates(part).items():
                levels[level] = levels.get(level, _Level()).plus(_Level(0, None, added, gone))
        return dict(sorted(levels.items()))

    def _stats(self, levels: Iterable[_Level]) -> TaskQueueStats:
        total = _Level()
        for level in levels:
            total = total.plus(level)
        stats = TaskQueueStats(
            approximate_backlog_count=total.count,
            tasks_add_rate=total.added_per_s,
            tasks_dispatch_rate=total.given_out_per_s,
        )
        now_ns = self._engine.runtime.now_ns()
        age_ns = max(now_ns - total.oldest_ns, 0) if total.oldest_ns is not None else 0
        set_duration(stats.approximate_backlog_age, age_ns)
        return stats

    async def update_task_queue_config(
        self, request: UpdateTaskQueueConfigRequest, call: Call
    ) -> UpdateTaskQueueConfigResponse:
        """UpdateTaskQueueConfig: limits of a queue and of its fairness keys, weights of keys; in force at once."""
        namespace = self._engine.namespaces.get(request.namespace)
        self._check_config(request)
        name = checks.queue_name(request.task_queue, self._engine.limits.run)
        key = QueueKey(namespace.namespace_id, name, _KINDS.get(request.task_queue_type, TaskKind.WORKFLOW))
        now_ns = self._engine.runtime.now_ns()
        config = await self._configs.change(key, lambda kept: queue_config.updated(kept, request, now_ns))
        return UpdateTaskQueueConfigResponse(config=queue_config.message(config))

    def _check_config(self, request: UpdateTaskQueueConfigRequest) -> None:
        for update, what, label in (
            (request.update_queue_rate_limit, "rate limit", "UpdateQueueRateLimit"),
            (
                request.update_fairness_key_rate_limit_default,
                "fairness key rate limit",
                "UpdateFairnessKeyRateLimitDefault",
            ),
        ):
            if not update.HasField("rate_limit"):
                continue
            if request.task_queue_type == _WORKFLOW:
                raise InvalidArgumentError(f"Setting {what} on workflow task queues is not allowed.")
            if not update.rate_limit.requests_per_second >= 0:
                raise InvalidArgumentError(f"RequestsPerSecond for {label} rate limit must be non-negative.")
            if math.isinf(
                update.rate_limit.requests_per_second
            ):  # JSON, in which this is kept, cannot say it
                raise InvalidArgumentError(f"RequestsPerSecond for {label} rate limit must be finite.")
            _check_length(f"{label}.Reason", update.reason, queue_config.MAX_REASON)
        _check_length("Identity", request.identity, self._engine.limits.run.id_bytes)
        queue_config.check(request)

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


def _check_length(field: str, value: str, limit: int) -> None:
    if len(value.encode()) > limit:
        raise InvalidArgumentError(f"{field} field too long (max {limit} characters).")
