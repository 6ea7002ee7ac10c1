"""RPCs on task queues: describe, configure, list partitions."""

from __future__ import annotations

import math

from perdure.api.enums.v1 import (
    BuildIdTaskReachability,
    DescribeTaskQueueMode,
    RateLimitSource,
    TaskQueueKind,
    TaskQueueType,
)
from perdure.api.taskqueue.v1 import PollerInfo, TaskQueueVersioningInfo
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
from perdure.core.run.protos import set_timestamp
from perdure.core.run.records import QueueKey, TaskKind
from perdure.server.deployments import Deployments
from perdure.server.engine.engine import Engine
from perdure.server.queue_configs import QueueConfigs
from perdure.server.service import checks
from perdure.server.service.call import Call
from perdure.server.service.queue_stats import levels_of, stats_message

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
            levels, now_ns = await levels_of(self._engine, parts), self._engine.runtime.now_ns()
            stats = stats_message(levels.values(), now_ns)
            if request.report_stats:
                response.stats.CopyFrom(stats)
                for level, known in levels.items():
                    response.stats_by_priority_key[level].CopyFrom(stats_message((known,), now_ns))
            if request.include_task_queue_status:
                response.task_queue_status.backlog_count_hint = stats.approximate_backlog_count
                response.task_queue_status.rate_per_second = per_second
        return response

    async def _describe_enhanced(
        self, namespace_id: str, name: str, request: DescribeTaskQueueRequest
    ) -> DescribeTaskQueueResponse:
        """The older mode: tasks of workflows and activities, by build id."""
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
        types = [number for number in request.task_queue_types or (_WORKFLOW, _ACTIVITY) if number in _KINDS]
        for number in dict.fromkeys(types):
            key = QueueKey(namespace_id, name, _KINDS[number])
            for label, part in self._chosen_parts(key, request).items():
                described = response.versions_info[label].types_info[number]
                queues = (part,) if part is not None else ()
                if request.report_pollers:
                    described.pollers.extend(poller for queue in queues for poller in self._pollers(queue))
                if request.report_stats:
                    levels = await levels_of(self._engine, queues)
                    described.stats.CopyFrom(stats_message(levels.values(), self._engine.runtime.now_ns()))
        for text in request.versions.build_ids:
            response.versions_info[text].SetInParent()
        if request.report_task_reachability:
            for label, info in response.versions_info.items():
                info.task_reachability = _UNREACHABLE if label else _REACHABLE
        return response

    def _chosen_parts(self, key: QueueKey, request: DescribeTaskQueueRequest) -> dict[str, QueueKey | None]:
        """What of a queue a request of the older mode asks for, by its name in the answer: build ids of earlier
        releases have no part here, versions have theirs under their whole name. All active versions are asked for
        beside others only: so it is on the official server."""
        chosen: dict[str, QueueKey | None] = {}
        routes = self._deployments.routes(key.namespace_id)
        known = {version: dotted(version) for version in routes.members}
        for text in request.versions.build_ids:
            found = [version for version, dotted_text in known.items() if text in (version, dotted_text)]
            for version in found:
                chosen[version] = key._replace(name=queue_name(key.name, version))
            if not found:
                chosen[text] = key if not text else None
        if not request.HasField("versions") or request.versions.unversioned:
            chosen[UNVERSIONED] = key
        if request.versions.all_active and chosen:
            for version in known:
                part = key._replace(name=queue_name(key.name, version))
                if routes.has(version, key.name, key.kind) and self._engine.matching.recent_pollers(part):
                    chosen[version] = part
        return chosen

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
