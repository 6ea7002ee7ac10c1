"""What may stand for an operation where one is called: the methods that serve it, by what they take and return.

May live here: types. May not: anything that does something; callers in lower layers name these in annotations only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from nexusrpc import InputT, OutputT
from nexusrpc.handler import OperationHandler, StartOperationContext

from perdure.nexus._operation_context import TemporalStartOperationContext, WorkflowRunOperationContext
from perdure.nexus._temporal_client import TemporalNexusClient, TemporalOperationResult
from perdure.nexus._token import WorkflowHandle
from perdure.types import NexusServiceType

WorkflowRunStart: TypeAlias = Callable[
    [NexusServiceType, WorkflowRunOperationContext, InputT], Awaitable[WorkflowHandle[OutputT]]
]
"""What `workflow_run_operation` decorates: a method that starts a workflow."""
TemporalOperationStartHandlerFunc: TypeAlias = Callable[
    [NexusServiceType, TemporalStartOperationContext, TemporalNexusClient, InputT],
    Awaitable[TemporalOperationResult[OutputT]],
]
"""What `temporal_operation` decorates: a method of a service's handler that starts something and says what."""
AsyncStart: TypeAlias = Callable[[NexusServiceType, StartOperationContext, InputT], Awaitable[OutputT]]
"""What `nexusrpc.handler.sync_operation` decorates: an `async def` that answers at once."""
SyncStart: TypeAlias = Callable[[NexusServiceType, StartOperationContext, InputT], OutputT]
"""The same, a `def`."""
MakeHandler: TypeAlias = Callable[[NexusServiceType], OperationHandler[InputT, OutputT]]
"""What `nexusrpc.handler.operation_handler` decorates: a method that makes the handler."""
