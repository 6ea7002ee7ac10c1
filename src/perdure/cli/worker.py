"""`perdure worker`: workers that are there, their deployments, and running one."""

from __future__ import annotations

from typing import Any, Final

from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import listings
from perdure.cli.command import Flags, Group
from perdure.cli.errors import EXIT_NOT_FOUND, CommandError
from perdure.cli.session import Session
from perdure.cli.show import look

worker = Group(
    "worker",
    "Run workers, see those that are there, and say which deployment gets tasks.",
    lazy={
        "deployment": ("perdure.cli.deployment:deployment", "Say which version of a deployment gets tasks"),
        "run": ("perdure.cli.worker_run:run", "Run the workflows and activities of a module"),
    },
)

_SYSTEM: Final = f.switch("--include-system-workers", help="Also those that belong to the server.")
_COLUMNS: Final = {
    "WorkerInstanceKey": "worker_heartbeat.worker_instance_key",
    "Status": "worker_heartbeat.status",
    "TaskQueue": "worker_heartbeat.task_queue",
    "WorkerIdentity": "worker_heartbeat.worker_identity",
    "HostName": "worker_heartbeat.host_info.host_name",
    "Deployment": "worker_heartbeat.deployment_version.deployment_name",
    "HeartbeatTime": "worker_heartbeat.heartbeat_time",
}
_WORKERS: Final = listings.Listing(request=service.ListWorkersRequest, items="workers_info", columns=_COLUMNS)
_SLOTS: Final = (
    "workflow_task_slots_info",
    "activity_task_slots_info",
    "nexus_task_slots_info",
    "local_activity_slots_info",
)
_POLLERS: Final = (
    "workflow_poller_info",
    "workflow_sticky_poller_info",
    "activity_poller_info",
    "nexus_poller_info",
)
_DESCRIBED: Final = {
    "WorkerInstanceKey": "worker_instance_key", "WorkerIdentity": "worker_identity", "Status": "status",
    "TaskQueue": "task_queue", "DeploymentName": "deployment_version.deployment_name",
    "BuildId": "deployment_version.build_id", "SdkName": "sdk_name", "SdkVersion": "sdk_version",
    "StartTime": "start_time", "HeartbeatTime": "heartbeat_time",
    "ElapsedSinceLastHeartbeat": "elapsed_since_last_heartbeat", "HostName": "host_info.host_name",
    "ProcessId": "host_info.process_id", "CpuUsage": "host_info.current_host_cpu_usage",
    "MemUsage": "host_info.current_host_mem_usage", "StickyCacheHit": "total_sticky_cache_hit",
    "StickyCacheMiss": "total_sticky_cache_miss", "StickyCacheSize": "current_sticky_cache_size",
}  # fmt: skip


@worker.add(
    "list", f.QUERY, f.LIMIT, f.WATCH, _SYSTEM, example="perdure worker list --query \"TaskQueue = 'orders'\""
)
async def list_workers(session: Session, flags: Flags) -> None:
    """List workers that send heartbeats."""
    request = service.ListWorkersRequest(
        query=flags.query or "", include_system_workers=flags.include_system_workers
    )
    await listings.show(session, flags, _WORKERS, request)


@worker.add("count", f.QUERY, f.WATCH, _SYSTEM, example="perdure worker count")
async def count(session: Session, flags: Flags) -> None:
    """Count workers that send heartbeats."""
    request = service.CountWorkersRequest(
        query=flags.query or "", include_system_workers=flags.include_system_workers
    )
    await listings.show_count(session, request)


@worker.add(
    "describe", f.WATCH,
    f.text("--worker-instance-key", required=True, metavar="KEY", help="Key of the worker, which lists show."),
    example="perdure worker describe --worker-instance-key KEY",
)  # fmt: skip
async def describe(session: Session, flags: Flags) -> None:
    """Show what a worker said of itself last: slots, polls, caches, host."""
    answer = await session.call(service.DescribeWorkerRequest(worker_instance_key=flags.worker_instance_key))
    if not answer.HasField("worker_info"):
        raise CommandError("there is no such worker", EXIT_NOT_FOUND)
    if session.out.is_json:
        session.out.json(answer.worker_info)
        return
    heartbeat = answer.worker_info.worker_heartbeat
    shown: dict[str, Any] = {name: look(heartbeat, path) for name, path in _DESCRIBED.items()}
    for name in (*_SLOTS, *_POLLERS):
        if heartbeat.HasField(name):
            shown[name] = getattr(heartbeat, name)
    session.out.card(shown)
