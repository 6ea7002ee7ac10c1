"""The client: starting workflows and doing everything else with them from outside.

May live here: what an application calls. May not: RPCs as such (`perdure.service`), or workflow code.
Names live in private modules by theme and are re-exported here.
"""

from __future__ import annotations

from perdure.client._client import Client
from perdure.client._config import ClientConfig, ClientConnectConfig
from perdure.client._exceptions import (
    WorkflowContinuedAsNewError,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from perdure.client._history import WorkflowHistory, WorkflowHistoryEventFilterType
from perdure.client._interceptor import Interceptor, OutboundInterceptor
from perdure.client._plugin import Plugin
from perdure.client._update import WithStartWorkflowOperation, WorkflowUpdateHandle, WorkflowUpdateStage
from perdure.client._workflow import WorkflowHandle

__all__ = [
    "Client",
    "ClientConfig",
    "ClientConnectConfig",
    "Interceptor",
    "OutboundInterceptor",
    "Plugin",
    "WithStartWorkflowOperation",
    "WorkflowContinuedAsNewError",
    "WorkflowFailureError",
    "WorkflowHandle",
    "WorkflowHistory",
    "WorkflowHistoryEventFilterType",
    "WorkflowQueryFailedError",
    "WorkflowQueryRejectedError",
    "WorkflowUpdateFailedError",
    "WorkflowUpdateHandle",
    "WorkflowUpdateRPCTimeoutOrCancelledError",
    "WorkflowUpdateStage",
]
