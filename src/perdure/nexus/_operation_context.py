"""What a handler of an operation can ask for: where it runs, the client, the logger, whether the worker shuts down.

May live here: contexts and the functions that read them. May not: decorators, or what starts and ends a task.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Self, TypeVar, Unpack, overload

from nexusrpc.handler import CancelOperationContext, OperationContext, StartOperationContext

from perdure.api.common.v1 import Link
from perdure.api.workflowservice.v1 import (
    SignalWithStartWorkflowExecutionResponse,
    StartActivityExecutionResponse,
    StartWorkflowExecutionResponse,
)
from perdure.client import Callback
from perdure.client._client_activities import PlainActivityOptions
from perdure.client._links import Backing
from perdure.client._start_options import PlainStartOptions
from perdure.common import MetricMeter, _arg_unset, _CompositeEvent
from perdure.nexus._link_conversion import (
    nexus_link_to_temporal_link,
    temporal_link_to_nexus_link,
    workflow_started_link,
)
from perdure.nexus._token import OperationToken, OperationTokenType, WorkflowHandle
from perdure.types import (
    MethodAsyncNoParam,
    MethodAsyncSingleParam,
    MultiParamSpec,
    ParamType,
    ReturnType,
    SelfType,
)

if TYPE_CHECKING:
    from perdure.client import ActivityHandle, Client
    from perdure.client import WorkflowHandle as ClientWorkflowHandle

ContextT = TypeVar("ContextT", bound=OperationContext)

NexusCallback = Callback
"""Where the result of an operation is sent."""


class BackingWorkflowOptions(PlainStartOptions, total=False):
    """The keyword arguments of the start of a workflow that answers an operation."""

    task_queue: str | None
    """Where its worker polls; None means the task queue of the worker that serves the operation."""


class BackingActivityOptions(PlainActivityOptions, total=False):
    """The keyword arguments of the start of an activity that answers an operation."""

    task_queue: str | None
    """Where its worker polls; None means the task queue of the worker that serves the operation."""


@dataclass(frozen=True)
class Info:
    """Where an operation is served."""

    endpoint: str
    """The endpoint that the request was sent to."""

    namespace: str
    """The namespace of the worker."""

    task_queue: str
    """The task queue of the worker."""


@dataclass(kw_only=True)
class ServedContext(Generic[ContextT]):
    """What the functions of `perdure.nexus` act on while an operation is served.

    Args:
        nexus_context: What `nexusrpc` knows of the request.
        client: The worker's.
        info: Returns where it is served; interceptors may wrap it.
        runtime_metric_meter: The worker's.
        worker_shutdown_event: Set when the worker begins to shut down.
    """

    nexus_context: ContextT
    client: Client
    info: Callable[[], Info]
    runtime_metric_meter: MetricMeter
    worker_shutdown_event: _CompositeEvent
    _metric_meter: MetricMeter | None = field(default=None, init=False)

    @property
    def metric_meter(self) -> MetricMeter:
        """A meter whose attributes name the operation."""
        if self._metric_meter is None:
            self._metric_meter = self.runtime_metric_meter.with_additional_attributes(
                {
                    "nexus_service": self.nexus_context.service,
                    "nexus_operation": self.nexus_context.operation,
                    "task_queue": self.info().task_queue,
                }
            )
        return self._metric_meter


class StartContext(ServedContext[StartOperationContext]):
    """The start of an operation is served; see `perdure.client._links.ServedOperation` for what the client sees."""

    @staticmethod
    def current() -> StartContext:
        """Return the context of the start that is served.

        Raises:
            RuntimeError: There is none.
        """
        context = current_context.get(None)
        if not isinstance(context, StartContext):
            raise RuntimeError("Not in Nexus operation context.")
        return context

    @property
    def request_id(self) -> str:
        """Of the request that started the operation: the same if it is made again."""
        return self.nexus_context.request_id

    def request_links(self) -> list[Link]:
        """Return links to the caller; those that cannot be read are left out."""
        converted = (nexus_link_to_temporal_link(link) for link in self.nexus_context.inbound_links)
        return [link for link in converted if link is not None]

    def take_link(self, link: Link) -> None:
        """Give the caller a link to what a request has caused; one that Nexus has no form for is left out."""
        try:
            nexus_link = temporal_link_to_nexus_link(link)
        except NotImplementedError as error:
            logger.warning("A link is not given to the caller of the operation: %s", error)
            return
        if nexus_link is not None:
            self.nexus_context.outbound_links.append(nexus_link)

    def take_start(
        self,
        namespace: str,
        workflow_id: str,
        response: StartWorkflowExecutionResponse | SignalWithStartWorkflowExecutionResponse,
    ) -> None:
        """Give the caller a link to a workflow that was started, or signalled instead."""
        if isinstance(response, SignalWithStartWorkflowExecutionResponse):
            if response.HasField("signal_link"):
                self.take_link(response.signal_link)
        elif response.HasField("link"):
            self.take_link(response.link)
        else:
            request_id = self.nexus_context.request_id
            self.take_link(workflow_started_link(namespace, workflow_id, response.run_id, request_id))

    def take_activity(
        self, namespace: str, activity_id: str, response: StartActivityExecutionResponse
    ) -> None:
        """Give the caller a link to an activity that was started."""
        if response.HasField("link"):
            self.take_link(response.link)
        else:
            link = Link.Activity(namespace=namespace, activity_id=activity_id, run_id=response.run_id)
            self.take_link(Link(activity=link))

    def backing(self, token: str) -> Backing:
        """Return what a start carries that answers this operation.

        Args:
            token: The operation's, for an answer that comes before the caller has heard of it.
        """
        context = self.nexus_context
        headers = {**context.callback_headers, "nexus-operation-token": token}
        callbacks = [Callback(context.callback_url, headers)] if context.callback_url else []
        return Backing(context.request_id, callbacks, self.request_links())

    async def start_workflow(
        self,
        workflow: str | Callable[..., Awaitable[Any]],
        arg: Any,
        *,
        id: str,
        task_queue: str | None = None,
        **options: Any,
    ) -> WorkflowHandle[Any]:
        """Start a workflow that answers this operation."""
        token = OperationToken(
            type=OperationTokenType.WORKFLOW, namespace=self.client.namespace, workflow_id=id
        )
        # Untyped, because the overloads know nothing of `backing`.
        start: Any = self.client.start_workflow
        handle: ClientWorkflowHandle[Any, Any] = await start(
            workflow,
            arg,
            id=id,
            task_queue=task_queue or self.info().task_queue,
            backing=self.backing(token.encode()),
            **options,
        )
        return WorkflowHandle._unsafe_from_client_workflow_handle(handle)

    async def start_activity(
        self,
        activity: str | Callable[..., Any],
        arg: Any,
        *,
        id: str,
        task_queue: str | None = None,
        **options: Any,
    ) -> ActivityHandle[Any]:
        """Start an activity that answers this operation."""
        # Which run it will be is not known yet.
        token = OperationToken(
            type=OperationTokenType.ACTIVITY, namespace=self.client.namespace, activity_id=id
        )
        # Untyped, because the overloads know nothing of `backing`.
        start: Any = self.client.start_activity
        handle: ActivityHandle[Any] = await start(
            activity,
            arg,
            id=id,
            task_queue=task_queue or self.info().task_queue,
            backing=self.backing(token.encode()),
            **options,
        )
        return handle


class CancelContext(ServedContext[CancelOperationContext]):
    """The cancellation of an operation is served."""


current_context: ContextVar[StartContext | CancelContext] = ContextVar("perdure_nexus_operation")


def _context() -> StartContext | CancelContext:
    context = current_context.get(None)
    if context is None:
        raise RuntimeError("Not in Nexus operation context.")
    return context


def in_operation() -> bool:
    """Return whether the calling code runs inside a handler of an operation."""
    return current_context.get(None) is not None


def info() -> Info:
    """Return where the operation is served.

    Raises:
        RuntimeError: Not inside an operation.
    """
    return _context().info()


def client() -> Client:
    """Return the worker's client.

    Raises:
        RuntimeError: Not inside an operation.
    """
    return _context().client


def metric_meter() -> MetricMeter:
    """Return a meter whose attributes name the operation.

    Raises:
        RuntimeError: Not inside an operation.
    """
    return _context().metric_meter


def is_worker_shutdown() -> bool:
    """Return whether the worker has begun to shut down.

    Raises:
        RuntimeError: Not inside an operation.
    """
    return _context().worker_shutdown_event.is_set()


async def wait_for_worker_shutdown() -> None:
    """Wait until the worker begins to shut down.

    Raises:
        RuntimeError: Not inside an operation.
    """
    await _context().worker_shutdown_event.wait()


def wait_for_worker_shutdown_sync(timeout: timedelta | float | None = None) -> None:
    """Wait in a thread until the worker begins to shut down.

    Args:
        timeout: How long at most, as a timedelta or in seconds; None means without limit.

    Raises:
        RuntimeError: Not inside an operation.
    """
    timeout_s = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    _context().worker_shutdown_event.wait_sync(timeout_s)


class WorkflowRunOperationContext(StartOperationContext):
    """What a start method with `@nexus.workflow_run_operation` gets first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._served = StartContext.current()

    @classmethod
    def _from_start_operation_context(cls, ctx: StartOperationContext) -> Self:
        return cls(**{item.name: getattr(ctx, item.name) for item in dataclasses.fields(ctx)})

    @property
    def metric_meter(self) -> MetricMeter:
        """A meter whose attributes name the operation."""
        return self._served.metric_meter

    @overload
    async def start_workflow(
        self, workflow: MethodAsyncNoParam[SelfType, ReturnType], **options: Unpack[BackingWorkflowOptions]
    ) -> WorkflowHandle[ReturnType]: ...

    @overload
    async def start_workflow(
        self,
        workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[BackingWorkflowOptions],
    ) -> WorkflowHandle[ReturnType]: ...

    @overload
    async def start_workflow(
        self,
        workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[BackingWorkflowOptions],
    ) -> WorkflowHandle[ReturnType]: ...

    @overload
    async def start_workflow(
        self,
        workflow: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type[ReturnType] | None = None,
        **options: Unpack[BackingWorkflowOptions],
    ) -> WorkflowHandle[ReturnType]: ...

    async def start_workflow(
        self, workflow: str | Callable[..., Awaitable[Any]], arg: Any = _arg_unset, **options: Any
    ) -> WorkflowHandle[Any]:
        """Start a workflow whose result is that of the operation, and return what the start method must return.

        It runs in the namespace of the worker that serves the operation. Repeating the request starts nothing again.
        The arguments are those of `Client.start_workflow`; without `task_queue` the workflow gets the worker's.

        Raises:
            WorkflowAlreadyStartedError: The id is in use, and the policies do not allow it.
            RPCError: It could not be started.
        """
        return await self._served.start_workflow(workflow, arg, **options)


class TemporalStartOperationContext(StartOperationContext):
    """What a start method with `@nexus.temporal_operation` gets first."""

    @classmethod
    def _from_start_operation_context(cls, ctx: StartOperationContext) -> Self:
        return cls(**{item.name: getattr(ctx, item.name) for item in dataclasses.fields(ctx)})


class TemporalCancelOperationContext(CancelOperationContext):
    """What the methods of `TemporalOperationHandler` get that cancel."""

    @classmethod
    def _from_cancel_operation_context(cls, ctx: CancelOperationContext) -> Self:
        return cls(**{item.name: getattr(ctx, item.name) for item in dataclasses.fields(ctx)})


class LoggerAdapter(logging.LoggerAdapter[logging.Logger]):
    """Adds to records which operation is served: `service`, `operation`, `task_queue`."""

    def __init__(self, logger: logging.Logger, extra: Mapping[str, Any] | None) -> None:
        super().__init__(logger, extra or {})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """See `logging.LoggerAdapter.process`."""
        extra = dict(self.extra or {})
        context = current_context.get(None)
        if context is not None:
            extra["service"] = context.nexus_context.service
            extra["operation"] = context.nexus_context.operation
            extra["task_queue"] = context.info().task_queue
        kwargs["extra"] = {**extra, **kwargs.get("extra", {})}
        return msg, kwargs


logger = LoggerAdapter(logging.getLogger("perdure.nexus"), None)
"""For handlers: its records say which operation is served."""
