"""Nexus services: operations that workflows of other namespaces call, served by a worker.

Services are classes decorated with `nexusrpc`, the library of the Nexus protocol; here are the operations that a
workflow, an update or an activity answers, and what handlers can ask for. Needs the extra `perdure[nexus]`.

May live here: what a handler is written with. May not: the life of a task (`perdure.worker`), or calling operations
(`perdure.workflow`).
"""

try:
    import nexusrpc  # noqa: F401  said here once for all modules below
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "perdure.nexus needs the package nexus-rpc: pip install 'perdure[nexus]'", name=error.name
    ) from error

from perdure.nexus._decorators import temporal_operation, workflow_run_operation
from perdure.nexus._operation_context import (
    Info,
    LoggerAdapter,
    NexusCallback,
    TemporalCancelOperationContext,
    TemporalStartOperationContext,
    WorkflowRunOperationContext,
    client,
    in_operation,
    info,
    is_worker_shutdown,
    logger,
    metric_meter,
    wait_for_worker_shutdown,
    wait_for_worker_shutdown_sync,
)
from perdure.nexus._operation_handlers import (
    CancelActivityOptions,
    CancelUpdateWorkflowOptions,
    CancelWorkflowRunOptions,
    TemporalOperationHandler,
)
from perdure.nexus._operation_types import TemporalOperationStartHandlerFunc
from perdure.nexus._temporal_client import TemporalNexusClient, TemporalOperationResult
from perdure.nexus._token import WorkflowHandle

__all__ = [
    "CancelActivityOptions",
    "CancelUpdateWorkflowOptions",
    "CancelWorkflowRunOptions",
    "Info",
    "LoggerAdapter",
    "NexusCallback",
    "TemporalCancelOperationContext",
    "TemporalNexusClient",
    "TemporalOperationHandler",
    "TemporalOperationResult",
    "TemporalOperationStartHandlerFunc",
    "TemporalStartOperationContext",
    "WorkflowHandle",
    "WorkflowRunOperationContext",
    "client",
    "in_operation",
    "info",
    "is_worker_shutdown",
    "logger",
    "metric_meter",
    "temporal_operation",
    "wait_for_worker_shutdown",
    "wait_for_worker_shutdown_sync",
    "workflow_run_operation",
]
