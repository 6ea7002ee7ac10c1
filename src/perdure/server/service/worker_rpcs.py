"""RPCs about workers: their heartbeats, and lists, counts and descriptions of those who live."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from perdure.api.enums.v1 import WorkerStatus
from perdure.api.worker.v1 import WorkerHeartbeat, WorkerListInfo
from perdure.api.workflowservice.v1 import (
    CountWorkersRequest,
    CountWorkersResponse,
    DescribeWorkerRequest,
    DescribeWorkerResponse,
    ListWorkersRequest,
    ListWorkersResponse,
    RecordWorkerHeartbeatRequest,
    RecordWorkerHeartbeatResponse,
)
from perdure.core.errors import InvalidArgumentError, NotFoundError
from perdure.core.run.protos import timestamp_ns
from perdure.core.visibility.attributes import AttributeType
from perdure.core.visibility.cache import QueryCache
from perdure.core.visibility.evaluate import matches
from perdure.server.engine.engine import Engine
from perdure.server.engine.worker_registry import WorkerRegistry
from perdure.server.service.call import Call

_PAGE = "workers-page"
_QUERIES_KEPT = 64
_STATUSES = {
    number: "".join(word.capitalize() for word in name.removeprefix("WORKER_STATUS_").split("_"))
    for name, number in WorkerStatus.items()
}
_FIELDS: Mapping[str, Callable[[WorkerHeartbeat], object]] = {
    "WorkerInstanceKey": lambda worker: worker.worker_instance_key,
    "WorkerIdentity": lambda worker: worker.worker_identity,
    "HostName": lambda worker: worker.host_info.host_name,
    "TaskQueue": lambda worker: worker.task_queue,
    "DeploymentName": lambda worker: worker.deployment_version.deployment_name,
    "BuildId": lambda worker: worker.deployment_version.build_id,
    "SdkName": lambda worker: worker.sdk_name,
    "SdkVersion": lambda worker: worker.sdk_version,
    "WorkerStatus": lambda worker: _STATUSES.get(worker.status),
    "Status": lambda worker: _STATUSES.get(worker.status),
}
_TIMES: Mapping[str, str] = {"StartTime": "start_time", "HeartbeatTime": "heartbeat_time"}
_ATTRIBUTES: Mapping[str, AttributeType] = {
    **dict.fromkeys(_FIELDS, AttributeType.KEYWORD),
    **dict.fromkeys(_TIMES, AttributeType.DATETIME),
}
"""What a filter of workers may name."""


class WorkerRpcs:
    """Handlers of the RPCs about workers.

    Args:
        engine: for namespaces and page tokens.
        registry: the heartbeats.
    """

    def __init__(self, engine: Engine, registry: WorkerRegistry) -> None:
        self._engine = engine
        self._registry = registry
        self._queries = QueryCache(_QUERIES_KEPT)

    async def record_worker_heartbeat(
        self, request: RecordWorkerHeartbeatRequest, call: Call
    ) -> RecordWorkerHeartbeatResponse:
        """RecordWorkerHeartbeat: workers say how they are."""
        namespace = self._engine.namespaces.get(request.namespace)
        self._registry.record(namespace.namespace_id, request.worker_heartbeat)
        return RecordWorkerHeartbeatResponse()

    async def list_workers(self, request: ListWorkersRequest, call: Call) -> ListWorkersResponse:
        """ListWorkers: those heard of lately that pass a filter, by instance key."""
        found = self._found(request.namespace, request.query)
        if request.next_page_token:
            fields = self._engine.tokens.open(_PAGE, request.next_page_token, "invalid next_page_token")
            found = [worker for worker in found if worker.worker_instance_key > fields[0]]
        page = found[: request.page_size] if request.page_size > 0 else found
        response = ListWorkersResponse()
        for worker in page:
            response.workers_info.add().worker_heartbeat.CopyFrom(worker)
            _show(response.workers.add(), worker)
        if len(page) < len(found):
            response.next_page_token = self._engine.tokens.seal(_PAGE, page[-1].worker_instance_key)
        return response

    async def count_workers(self, request: CountWorkersRequest, call: Call) -> CountWorkersResponse:
        """CountWorkers: how many of those heard of lately pass a filter."""
        return CountWorkersResponse(count=len(self._found(request.namespace, request.query)))

    async def describe_worker(self, request: DescribeWorkerRequest, call: Call) -> DescribeWorkerResponse:
        """DescribeWorker: a worker's last heartbeat."""
        namespace = self._engine.namespaces.get(request.namespace)
        found = self._registry.find(namespace.namespace_id, request.worker_instance_key)
        if found is None:
            raise NotFoundError(f"Worker {request.worker_instance_key} not found")
        response = DescribeWorkerResponse()
        response.worker_info.worker_heartbeat.CopyFrom(found)
        return response

    def _found(self, namespace_name: str, text: str) -> list[WorkerHeartbeat]:
        namespace = self._engine.namespaces.get(namespace_name)
        workers = self._registry.all(namespace.namespace_id)
        if not text.strip():
            return workers
        query = self._queries.parse("workers", text, _ATTRIBUTES)
        if query.group_by is not None:
            raise InvalidArgumentError("operation is not supported: 'group by' clause")
        return [worker for worker in workers if matches(query.where, _record(worker))]


def _record(worker: WorkerHeartbeat) -> dict[str, object]:
    """A worker as filters see it; what it does not say is missing."""
    record: dict[str, object] = {name: read(worker) or None for name, read in _FIELDS.items()}
    for name, field in _TIMES.items():
        if worker.HasField(field):  # type: ignore[arg-type]  # a row of the table above
            record[name] = timestamp_ns(getattr(worker, field))
    return record


def _show(info: WorkerListInfo, worker: WorkerHeartbeat) -> None:
    for name in (
        "worker_instance_key",
        "worker_identity",
        "task_queue",
        "sdk_name",
        "sdk_version",
        "status",
    ):
        setattr(info, name, getattr(worker, name))
    for name in ("deployment_version", "start_time"):
        if worker.HasField(name):  # type: ignore[arg-type]  # a row of the list above
            getattr(info, name).CopyFrom(getattr(worker, name))
    info.host_name = worker.host_info.host_name
    info.worker_grouping_key = worker.host_info.worker_grouping_key
    info.process_id = worker.host_info.process_id
    info.plugins.extend(worker.plugins)
    info.drivers.extend(worker.drivers)
