"""Completed spans inside workflows: one for each thing that happens, made once and not again in a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import opentelemetry.context
import opentelemetry.trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import Attributes, AttributeValue

import perdure.worker
import perdure.workflow
from perdure.contrib.opentelemetry._propagation import (
    HEADER_KEY,
    Carrier,
    attached,
    carrier_from,
    current_carrier,
    default_text_map_propagator,
    with_carrier,
    with_text_carrier,
)
from perdure.converter import PayloadConverter
from perdure.exceptions import FailureError

COMPLETED_SPAN_FUNCTION = "__perdure_opentelemetry_completed_span"

_INTERCEPTOR_KEY = opentelemetry.context.create_key("__perdure_opentelemetry_workflow_interceptor")


@dataclass(frozen=True)
class CompletedSpan:
    """What a completed span says."""

    context: Carrier
    """The context it is made in."""

    name: str
    attributes: Attributes
    time_ns: int
    """When it begins and ends, in nanoseconds since 1970."""

    link_context: Carrier | None
    """The context whose span it links to."""

    exception: Exception | None
    kind: SpanKind
    parent_missing: bool
    """Whether it would be the first span of its trace."""


class TracingWorkflowInboundInterceptor(perdure.worker.WorkflowInboundInterceptor):
    """Traces what comes into a workflow. A subclass may change its attributes, see `TracingInterceptor`."""

    def __init__(self, next: perdure.worker.WorkflowInboundInterceptor) -> None:
        """Create the interceptor."""
        super().__init__(next)
        self._make_span: Callable[[CompletedSpan], Carrier | None] = perdure.workflow.extern_functions()[
            COMPLETED_SPAN_FUNCTION
        ]
        self.header_key: str = HEADER_KEY
        self.text_map_propagator: TextMapPropagator = default_text_map_propagator
        self.payload_converter = PayloadConverter.default
        self._workflow_carrier: Carrier | None = None

    @staticmethod
    def _from_context() -> TracingWorkflowInboundInterceptor | None:
        """Return the interceptor of the workflow that is running, if it has one."""
        found = opentelemetry.context.get_value(_INTERCEPTOR_KEY)
        return found if isinstance(found, TracingWorkflowInboundInterceptor) else None

    def init(self, outbound: perdure.worker.WorkflowOutboundInterceptor) -> None:
        """See the base class."""
        super().init(_TracingWorkflowOutboundInterceptor(outbound, self))

    async def execute_workflow(self, input: perdure.worker.ExecuteWorkflowInput) -> Any:
        """See the base class."""
        workflow_type = perdure.workflow.info().workflow_type
        with self._top_level_workflow_context(success_is_complete=True):
            self._completed_span(f"RunWorkflow:{workflow_type}", kind=SpanKind.SERVER)
            return await super().execute_workflow(input)

    async def handle_signal(self, input: perdure.worker.HandleSignalInput) -> None:
        """See the base class."""
        with self._handling(f"HandleSignal:{input.signal}", input):
            await super().handle_signal(input)

    async def handle_query(self, input: perdure.worker.HandleQueryInput) -> Any:
        """See the base class."""
        # Part of the trace of whoever asks, and only linked to that of the workflow.
        carrier = carrier_from(self, input.headers)
        context = self.text_map_propagator.extract(carrier) if carrier else Context()
        with attached(self._set_on_context(context)):
            self._completed_span(
                f"HandleQuery:{input.query}",
                link_to=self._load_workflow_context_carrier() if carrier else None,
                # A query is never part of a replay, whatever state the workflow is in.
                also_in_replay=True,
                kind=SpanKind.SERVER,
            )
            return await super().handle_query(input)

    def handle_update_validator(self, input: perdure.worker.HandleUpdateInput) -> None:
        """See the base class."""
        with self._handling(f"ValidateUpdate:{input.update}", input):
            super().handle_update_validator(input)

    async def handle_update_handler(self, input: perdure.worker.HandleUpdateInput) -> Any:
        """See the base class."""
        with self._handling(f"HandleUpdate:{input.update}", input):
            return await super().handle_update_handler(input)

    @contextmanager
    def _handling(self, name: str, input: Any) -> Iterator[None]:
        """Enter the workflow's context for a handler, with a span that links to who sent what it handles."""
        link_to = carrier_from(self, input.headers)
        with self._top_level_workflow_context(success_is_complete=False):
            self._completed_span(name, link_to=link_to, kind=SpanKind.SERVER)
            yield

    def _set_on_context(self, context: Context) -> Context:
        """Return a context in which `completed_span` finds this interceptor."""
        return opentelemetry.context.set_value(_INTERCEPTOR_KEY, self, context)

    def _load_workflow_context_carrier(self) -> Carrier | None:
        if self._workflow_carrier is None:
            self._workflow_carrier = carrier_from(self, perdure.workflow.info().headers)
        return self._workflow_carrier

    @contextmanager
    def _top_level_workflow_context(self, *, success_is_complete: bool) -> Iterator[None]:
        """Enter the context of the workflow's start. What ends the workflow has a span, made at the end.

        Args:
            success_is_complete: Whether the workflow ends when the block does.
        """
        carrier = self._load_workflow_context_carrier()
        context = self.text_map_propagator.extract(carrier) if carrier else Context()
        with attached(self._set_on_context(context)):
            try:
                yield
            except FailureError as error:
                # Other errors fail the workflow task, and the workflow goes on.
                self._completed(error)
                raise
            if success_is_complete:
                self._completed(None)

    def _completed(self, error: FailureError | None) -> None:
        self._completed_span(f"CompleteWorkflow:{perdure.workflow.info().workflow_type}", exception=error)

    def _completed_span(
        self,
        name: str,
        *,
        link_to: Carrier | None = None,
        also_in_replay: bool = False,
        additional_attributes: Attributes = None,
        exception: Exception | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Carrier | None:
        """Make a span, unless this is a replay.

        Returns:
            The context in which the span is the current one, if one was made.
        """
        if perdure.workflow.unsafe.is_replaying() and not also_in_replay:
            return None
        info = perdure.workflow.info()
        attributes: dict[str, AttributeValue] = {
            "temporalWorkflowID": info.workflow_id,
            "temporalRunID": info.run_id,
            **(additional_attributes or {}),
        }
        wanted = CompletedSpan(
            context=current_carrier(self),
            name=name,
            attributes=attributes,
            time_ns=perdure.workflow.time_ns(),
            link_context=link_to,
            exception=exception,
            kind=kind,
            parent_missing=opentelemetry.trace.get_current_span() is opentelemetry.trace.INVALID_SPAN,
        )
        # Making a span takes random numbers and may write or send it: nothing that the workflow depends on.
        with perdure.workflow.unsafe.sandbox_unrestricted():
            return self._make_span(wanted)


class _TracingWorkflowOutboundInterceptor(perdure.worker.WorkflowOutboundInterceptor):
    """Traces what a workflow asks for."""

    def __init__(
        self, next: perdure.worker.WorkflowOutboundInterceptor, root: TracingWorkflowInboundInterceptor
    ) -> None:
        super().__init__(next)
        self._root = root

    def _trace(self, name: str, input: Any, kind: SpanKind = SpanKind.CLIENT) -> None:
        carrier = self._root._completed_span(name, kind=kind)
        if carrier:
            input.headers = with_carrier(self._root, input.headers, carrier)

    def continue_as_new(self, input: perdure.worker.ContinueAsNewInput) -> NoReturn:
        input.headers = with_carrier(self._root, input.headers, current_carrier(self._root))
        super().continue_as_new(input)

    async def signal_child_workflow(self, input: perdure.worker.SignalChildWorkflowInput) -> None:
        self._trace(f"SignalChildWorkflow:{input.signal}", input, SpanKind.SERVER)
        await super().signal_child_workflow(input)

    async def signal_external_workflow(self, input: perdure.worker.SignalExternalWorkflowInput) -> None:
        self._trace(f"SignalExternalWorkflow:{input.signal}", input)
        await super().signal_external_workflow(input)

    def start_activity(
        self, input: perdure.worker.StartActivityInput
    ) -> perdure.workflow.ActivityHandle[Any]:
        self._trace(f"StartActivity:{input.activity}", input)
        return super().start_activity(input)

    async def start_child_workflow(
        self, input: perdure.worker.StartChildWorkflowInput
    ) -> perdure.workflow.ChildWorkflowHandle[Any, Any]:
        self._trace(f"StartChildWorkflow:{input.workflow}", input)
        return await super().start_child_workflow(input)

    def start_local_activity(
        self, input: perdure.worker.StartLocalActivityInput
    ) -> perdure.workflow.ActivityHandle[Any]:
        self._trace(f"StartActivity:{input.activity}", input)
        return super().start_local_activity(input)

    async def start_nexus_operation(
        self, input: perdure.worker.StartNexusOperationInput[Any, Any]
    ) -> perdure.workflow.NexusOperationHandle[Any]:
        carrier = self._root._completed_span(
            f"StartNexusOperation:{input.service}/{input.operation_name}", kind=SpanKind.CLIENT
        )
        if carrier:
            input.headers = with_text_carrier(input.headers, carrier)
        return await super().start_nexus_operation(input)
